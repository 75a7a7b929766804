"""The benchmark's tables, small and few; what it measures against; and the pages' tables."""

import json
import os
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import taking
from train import benchmark, readme
from train.errors import UsageError
from train.timing import (
    by_hand,
    cost,
    fields,
    mixing_tables,
    peers,
    tpu_tables,
    training_tables,
)
from train.timing import (
    report as benchmark_report,
)
from train.timing.report import Table

ROOT = pathlib.Path(__file__).parents[2]

SMALL = {
    "methods": lambda rounds: mixing_tables.methods(rounds, batches=((32, 8),)),
    "hand": lambda rounds: mixing_tables.hand(rounds, batches=((32, 8),)),
    "programs": lambda rounds: mixing_tables.programs(rounds, n=32, size=8),
    "scratch": lambda rounds: mixing_tables.scratch(rounds, n=4, size=8),
    "draws": lambda rounds: mixing_tables.draws(rounds, sizes=(8,), alphas=(0.2,)),
    "transport": lambda rounds: mixing_tables.transport(rounds, n=16, groups=(4,)),
    "hull": lambda rounds: mixing_tables.hull(rounds, m=8, sizes=(8,), d=4, positions=2),
    "steps": lambda rounds: training_tables.training_steps(rounds, n=16, size=8, mixes=("erm", "mixup")),
    "devices": lambda rounds: training_tables.scaling(rounds, counts=(2,), repeats=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmark.TABLES)
def test_every_table_is_of_numbers(name):
    table = SMALL[name](2)
    assert table.rows
    for row in table.rows:
        assert len(row) == len(table.columns)
        for cell in row:
            numbers = [] if isinstance(cell, str) else cell if isinstance(cell, list) else [cell]
            assert np.all(np.isfinite(numbers)), row
            assert np.all(np.array(numbers) > 0) or table.title == "Random numbers", row  # which noise may outweigh


@pytest.mark.slow
def test_a_copy_is_itself_against_itself():
    table = mixing_tables.methods(2, batches=((32, 8), (64, 8)))
    assert table.columns == ["method", "32 x 8 x 8 x 3, ms", "/ copy", "64 x 8 x 8 x 3, ms", "/ copy"]
    assert [row[0] for row in table.rows] == list(mixing_tables.METHODS)
    assert table.rows[0][::2] == ["copy", [1, 1, 1], [1, 1, 1]]


def test_ratios_are_of_a_method_to_what_it_is_held_against(monkeypatch):
    taken = {name: 1.0 + place for place, name in enumerate(mixing_tables.METHODS)}
    monkeypatch.setattr(cost, "seconds", lambda calls, rounds: {name: np.full(rounds, taken[name]) for name in calls})
    by_name = {row[0]: row[-1] for row in mixing_tables.methods(2, batches=((32, 8),)).rows}
    assert by_name == {name: [taken[name] / taken["copy"]] * 3 for name in taken}
    hand = {row[0]: row[-1] for row in mixing_tables.hand(2, batches=((32, 8),)).rows}
    assert hand == {name: [taken[name] / taken[f"{name} by hand"]] * 3 for name in ("mixup", "cutmix")}


def test_every_method_that_mixes_pairs_of_images_is_in_the_tables():
    timed = {name.split()[0] for name in mixing_tables.METHODS}
    assert timed - {"copy"} == {"kmixup", *taking("pairing")} - {"varmixup"}  # which costs what its VAE costs


@pytest.mark.slow
def test_the_program_leaves_a_record_and_a_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "tables", lambda: SMALL)
    results = tmp_path / "elsewhere" / "record.json"
    flags = ["--only=methods,draws", "--rounds=2", f"--workdir={tmp_path}", f"--results={results}"]
    assert benchmark.main(flags) == 0
    record = json.loads(results.read_text())
    assert list(record["tables"]) == ["methods", "draws"]
    command = f"python -m train.benchmark {' '.join(flags)}"
    assert [table["command"] for table in record["tables"].values()] == [command] * 2
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    for name, table in record["tables"].items():
        assert "\n".join(benchmark_report.lines(record, name)[2:]) in output
        assert f"{table['title']}." in output


def test_tables_that_are_made_anew_stand_among_the_old_ones_and_each_says_by_which_run(tmp_path, monkeypatch, capsys):
    made = {name: lambda rounds, name=name: Table(f"{name} of {rounds}", ["a"], [["b"]]) for name in ("draws", "hull")}
    monkeypatch.setattr(benchmark, "tables", lambda: made)
    results = tmp_path / "record.json"
    flags = ["--only=draws,hull", f"--workdir={tmp_path}", f"--results={results}"]
    assert benchmark.main([*flags, "--rounds=2"]) == 0
    (caption,) = benchmark_report.lines(json.loads(results.read_text()), "caption")
    assert ": `draws`, `hull` by `python -m train.benchmark --only=draws,hull" in caption
    assert benchmark.main(["--only=draws", "--update", *flags[1:], "--rounds=3"]) == 0
    record = json.loads(results.read_text())
    assert [(name, table["title"]) for name, table in record["tables"].items()] == [
        ("draws", "draws of 3"),
        ("hull", "hull of 2"),
    ]
    (caption,) = benchmark_report.lines(record, "caption")
    for name, table in record["tables"].items():
        assert f"`{name}` by `{table['command']}`, {table['rounds']} rounds, " in caption
        assert table["date"] in caption
    results.write_text(json.dumps(record | {"topology": "v5e:2x2"}))
    assert benchmark.main([*flags, "--update"]) == 2
    results.unlink()
    assert benchmark.main([*flags, "--update"]) == 2
    of_another, missing = capsys.readouterr().err.strip().splitlines()
    assert "has topology v5e:2x2, not None: name another file by --results" in of_another
    assert "--update finds no" in missing


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only=method"], "unknown table method: did you mean methods?"),
        (["--rounds=1"], "--rounds must be at least 2, got 1"),
        (["--only="], "name a table to time"),
        (["--topology=v5e:2x2", "--only=draws"], "unknown table draws: take one of tpu_methods, tpu_steps"),
        (["--topology=v5e:2x2", "--rounds=9"], "--topology times nothing: drop --peers and --rounds"),
        (["--topology=v5e:2x2"], "--topology needs libtpu, which compiles for TPUs where none is: pip install libtpu"),
        (["--peers"], "--peers finds none of timm, torchvision, kornia, keras: install one"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(peers, "installed", list)
    monkeypatch.setitem(sys.modules, "libtpu", None)
    assert benchmark.main([*flags, f"--workdir={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.slow
def test_what_would_be_compiled_for_a_tpu_is_reckoned():
    """For this CPU, of which XLA does not say how long it takes."""
    [cpu, *_] = jax.devices()
    methods = tpu_tables.methods(cpu, n=32, size=8, dtypes=("uint8",))
    steps = tpu_tables.training_steps(cpu, n=32, size=8, model="cnn")
    for table, base, names in ((methods, "copy", tpu_tables.METHODS), (steps, "erm", tpu_tables.MIXES)):
        named = {row[-5]: row for row in table.rows}
        assert list(named) == list(names)
        assert named[base][-3] == 1
        assert all(row[-3] > 0 for row in named.values())
        assert {row[-2] for row in named.values()} == {""}


def test_cells_are_read_at_a_glance():
    table = Table("t", ["a", "b", "c"], [["x", 0.123456, [1.0, 12.345, 1234.5]]])
    assert benchmark_report.markdown(table) == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| x | 0.12 | 12.3 [1.00, 1,234] |",
    ]


def test_what_is_recycled_is_what_is_computed():
    calls = []

    def function(x):
        calls.append(x)
        return {"twice": 2 * x}

    call = cost.recycling(function, jnp.arange(4.0))
    before = call()["twice"]
    for _ in range(3):
        after = call()["twice"]
        assert before.is_deleted()
        assert after.tolist() == [0, 2, 4, 6]
        before = after
    assert len(calls) == 2  # of its shape, of its program


def test_what_was_compiled_before_is_compiled_anew():
    traced = []

    def function(x):
        traced.append(x)
        return 2 * x

    jax.jit(function)(jnp.arange(4.0))
    assert cost.compiled(function, jnp.arange(4.0)).call().tolist() == [0, 2, 4, 6]
    assert len(traced) == 3  # before, of its shape, of its program


@pytest.mark.slow
@pytest.mark.parametrize("method", [by_hand.mixup, by_hand.cutmix])
def test_labels_by_hand_get_the_share_that_pixels_get(method):
    images = jnp.broadcast_to(jnp.eye(8)[:, None, None, :], (8, 6, 6, 8))
    mixed, labels = method(images, jnp.eye(8), jax.random.key(0))
    np.testing.assert_allclose(labels, mixed.mean((1, 2)), atol=1e-6)
    assert np.ptp(labels) > 0.1


def test_labels_by_slices_get_the_share_that_pixels_get():
    images = np.broadcast_to(np.eye(8, dtype=np.float32)[:, None, None, :], (8, 6, 6, 8))
    out = np.empty_like(images)
    labels = by_hand.cutmix_by_slices(images, np.eye(8), np.random.default_rng(0), out)
    np.testing.assert_allclose(labels, out.mean((1, 2)), atol=1e-6)
    assert np.ptp(labels) > 0.1


@pytest.mark.slow
def test_rows_of_other_libraries_name_what_they_are_compared_with(monkeypatch):
    monkeypatch.setattr(peers, "installed", list)
    calls = peers.calls(fields.random_fields(4, size=8), np.eye(10, dtype=np.float32)[:4])
    assert {name.split(": ")[1] for name in calls} == {
        "jaxmix",
        "jaxmix, into scratch",
        "numpy slices",
        "numpy slices, into scratch",
    }
    for name, call in calls.items():
        jax.block_until_ready(call())
        assert f"{name.split(': ')[0]}: jaxmix" in calls


@pytest.fixture
def peers_alone(monkeypatch):
    """Where no other library is installed, and batches are small; the cores asked for."""
    asked = []
    monkeypatch.setattr(peers, "installed", list)
    monkeypatch.setattr(peers, "BATCHES", ((8, 8), (4, 16)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: asked.append(cores), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    return asked


@pytest.mark.slow
def test_other_libraries_are_timed_on_one_core(peers_alone, monkeypatch, capsys):
    def answer(module, rounds):
        assert module == "train.timing.peers"
        assert peers.main([str(rounds)]) == 0
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(training_tables, "_answer", answer)
    table = training_tables.others(2)
    assert peers_alone == [{3}]
    assert table.columns == [
        "method",
        "drawn per",
        "by",
        "8 x 8 x 8 x 3, ms",
        "/ jaxmix",
        "4 x 16 x 16 x 3, ms",
        "/ jaxmix",
    ]
    assert ["cutmix", "sample", "numpy slices, into scratch"] in [row[:3] for row in table.rows]
    for row in table.rows:
        assert len(row) == len(table.columns)
        assert (row[2] == "jaxmix") == (row[4] == row[6] == [1, 1, 1])


def test_without_a_way_to_keep_to_one_core_nothing_is_timed(peers_alone, monkeypatch, capsys):
    monkeypatch.delattr(os, "sched_setaffinity")
    assert peers.main(["2"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "on Linux" in line


def test_the_pages_tables_are_those_of_the_results():
    text = "".join(page.read_text() for page in readme.PAGES)
    assert readme.updated(text) == text
    named = set(re.findall(r"<!-- results: (\w+)(?: (\w+))? -->", text))
    records = {path.stem: json.loads(path.read_text()) for path in readme.RESULTS.glob("*.json")}
    parts = {name: ["caption", *record["tables"]] if "tables" in record else [""] for name, record in records.items()}
    assert named == {(name, part) for name in parts for part in parts[name]}
    judged = set(" ".join(re.findall(r"<!-- claims: ([\w ]+) -->", text)).split())
    assert judged == {name for name, record in records.items() if record.get("design", {}).get("claims")}


@pytest.mark.parametrize("marker", ["benchmark method", "benchmark", "compare_digits caption", "nothing"])
def test_a_marker_without_a_table_is_named(marker):
    with pytest.raises(UsageError, match=marker.split()[0]):
        readme.updated(f"<!-- results: {marker} -->\n<!-- end -->")
