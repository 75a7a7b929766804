"""The comparison program: what it chooses, keeps, counts and writes."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from scipy import stats

from jaxmix.evaluation import corruptions
from tests.train.conftest import ROOT
from train import cli, compare, config
from train.comparing import claims as claims_lib
from train.comparing import design as comparison
from train.comparing import experiments, kept
from train.comparing import figure as comparison_figure
from train.comparing import report as comparison_report
from train.comparing.design import Claim, Comparison
from train.errors import UsageError
from train.measuring import evaluation, robustness, sections
from train.running import run_folder
from train.tasks import classifier
from train.timing import cost

CONFIGS = sorted((ROOT / "train" / "configs").glob("compare_*.py"))
RECORDS = sorted((ROOT / "train" / "results").glob("compare_*.json"))


def tiny(**changes):
    """Two methods on iris, two seeds, two alphas."""
    base = config.Config(
        data=config.Data(name="iris", num_validation=30, batch_size=32),
        model=config.Model(name="mlp", width=8),
        num_epochs=2,
    )
    options = {
        "datasets": {"iris": base},
        "methods": {"erm": config.Mix("erm"), "mixup": config.Mix("mixup(alpha={alpha})")},
        "alphas": (0.2, 1.0),
        "num_seeds": 2,
        "num_selection_seeds": 1,
        "measures": ("accuracy", "nll", "alignment"),
        "claims": (Claim("Somebody", "says so", "nll", ("mixup",), "erm"),),
    }
    return Comparison(**(options | changes))


def record(values, *, key="accuracy", claims=()):
    """Results of methods by seed."""
    methods = {method: {"policy": method} for method in values}
    design = {"datasets": {"d": {}}, "methods": methods, "measures": [key], "claims": claims, "alphas": [1.0]}
    runs = [
        {
            "dataset": "d",
            "method": method,
            "alpha": None if method == "erm" else 1.0,
            "seed": seed,
            "values": {key: value},
        }
        for method, column in values.items()
        for seed, value in reversed(list(enumerate(column)))
    ]
    return {
        "command": "c",
        "date": "2026-01-01",
        "environment": {"devices": "1 x cpu", "host": "h", "jax": "0"},
        "design": design | {"limit": 0, "num_seeds": 3, "num_selection_seeds": 1},
        "runs": runs,
        "cost": {"d": {method: [0.9, 1.1, 1.2] for method in values}},
    }


def test_the_standard_error_is_scipy_s():
    values = [0.5, 0.7, 0.4, 0.9]
    assert comparison.mean_and_error(values) == pytest.approx((np.mean(values), stats.sem(values)))


def test_a_difference_counts_by_a_paired_t_test_and_by_which_way_is_better():
    beyond, within = [0.1, 0.3, 0.2, 0.2], [0.0, 0.3, 0.1, 0.2]
    assert stats.ttest_1samp(beyond, 0).pvalue < 0.05 < stats.ttest_1samp(within, 0).pvalue
    assert np.mean(within) > 2 * stats.sem(within)
    low, high = stats.t.interval(0.95, 3, np.mean(beyond), stats.sem(beyond))
    assert comparison.margin(beyond) == pytest.approx((high - low) / 2)
    assert comparison.counts(beyond, "higher") == 1
    assert comparison.counts(beyond, "lower") == -1
    assert comparison.counts([-value for value in beyond], "lower") == 1
    assert comparison.counts(within, "higher") == 0
    assert comparison.counts([0.0, 0.0], "higher") == 0


def test_bold_is_better_and_italic_is_worse_than_the_first_method_seed_by_seed():
    """The seeds differ by far more than the methods do, and that cancels."""
    first = [0.5, 0.7, 0.9]
    values = {
        "erm": first,
        "better": [value + 0.01 for value in first],
        "worse": [value - 0.01 for value in first],
        "other": [0.9, 0.7, 0.5],
    }
    lines = comparison_report.tables(record(values))
    assert "| erm |  | 70.00 ± 11.55 | 1 |" in lines
    assert "| better | 1 | **71.00 ± 11.55** | 1.10 [0.90, 1.20] |" in lines
    assert "| worse | 1 | *69.00 ± 11.55* | 1.10 [0.90, 1.20] |" in lines
    assert "| other | 1 | 70.00 ± 11.55 | 1.10 [0.90, 1.20] |" in lines


def test_a_row_says_the_policy_that_was_run_where_results_have_it():
    written = record({"erm": [0.5, 0.7, 0.9], "strong": [0.5, 0.7, 0.9]})
    for run in written["runs"]:
        run["policy"] = "erm" if run["method"] == "erm" else "mixup(alpha=10.0)"
    lines = comparison_report.tables(written)
    assert lines[0].startswith("| method | policy |")
    assert "| erm | `erm` | 70.00 ± 11.55 | 1 |" in lines
    assert "| strong | `mixup(alpha=10.0)` | 70.00 ± 11.55 | 1.10 [0.90, 1.20] |" in lines


def test_accuracy_by_corruption_is_a_table_of_its_own():
    first = [0.5, 0.7, 0.9]
    written = record({"erm": first, "other": first, "mixup": [value + 0.01 for value in first]})
    written["design"]["by_corruption"] = ["erm", "mixup"]
    for run in written["runs"]:
        if run["method"] != "other":
            run["corruptions"] = {"fog": run["values"]["accuracy"], "gaussian_noise": 0.25}
    lines = comparison_report.tables(written)
    i = lines.index("| corruption | erm | mixup |")
    assert lines[i + 2] == "| fog | 70.00 ± 11.55 | **71.00 ± 11.55** |"
    assert lines[i + 3] == "| gaussian noise | 25.00 ± 0.00 | 25.00 ± 0.00 |"
    assert len(lines) == i + 4


def test_what_was_measured_is_kept_unless_accuracy_by_corruption_is_wanted_and_missing(tmp_path, monkeypatch):
    design = tiny(measures=("corrupted_accuracy", "pgd_accuracy_4", "fgsm_accuracy_2"), claims=())
    run, asked = comparison.run(design, "iris", "erm", None, 0), []

    def evaluated(folder, options, quiet):
        asked.append((options.only, options.epsilons))
        details = {"accuracy": {"fog": [0.2, 0.4]}}
        return {"corruptions": sections.Section({"corrupted_accuracy": 0.3}, {}, details)}

    monkeypatch.setattr(experiments, "trained", lambda *_: None)
    monkeypatch.setattr(evaluation, "evaluate", evaluated)
    run.folder(tmp_path).mkdir(parents=True)
    for _ in range(2):
        found = experiments.evaluated(run, tmp_path, design)
        assert found == ({"corrupted_accuracy": 0.3}, {"fog": pytest.approx(0.3)})
    assert asked == [(("corruptions", "attacks"), (2, 4))]
    kept = run.folder(tmp_path) / "measures.json"
    kept.write_text(
        json.dumps({key: value for key, value in json.loads(kept.read_text()).items() if key != "corruptions"})
    )
    assert experiments.evaluated(run, tmp_path, design).corruptions == {}
    wanted = dataclasses.replace(design, by_corruption=("erm",))
    assert experiments.evaluated(run, tmp_path, wanted).corruptions == {"fog": pytest.approx(0.3)}
    assert len(asked) == 2


@pytest.mark.parametrize(("shift", "verdict"), [(-0.01, "holds"), (0.01, "the contrary"), (0.0, "not seen")])
def test_a_claim_gets_the_verdict_of_its_criterion(shift, verdict):
    first = [0.5, 0.7, 0.9]
    claims = [dataclasses.asdict(Claim("Somebody", "says so", "nll", ("mixup",), "erm"))]
    values = {"erm": first, "mixup": [value + shift for value in first]}
    written = record(values, key="nll", claims=claims)
    sign = "-" if shift < 0 else "+"
    cell = f"{verdict}, {sign}{abs(shift):.3f} ± 0.000"
    assert claims_lib.lines([written])[-1] == f"| Somebody says so | NLL | mixup - erm | {cell} |"
    other = json.loads(json.dumps(written).replace('"d"', '"e"').replace("nll", "ece"))
    assert claims_lib.lines([written, other])[0] == "| claim | measure | of | d | e |"
    assert claims_lib.lines([written, other])[-1] == f"| Somebody says so | NLL / ECE | mixup - erm | {cell} | {cell} |"


def test_alpha_is_chosen_by_validation_accuracy_then_nll(monkeypatch):
    scores = {0.2: (0.8, 0.3), 1.0: (0.9, 0.5), 4.0: (0.9, 0.4)}

    def trained(run, workdir):
        assert run.config.seed in (1000, 1001)
        accuracy, nll = scores[run.alpha]
        return {"validation_accuracy": accuracy, "validation_nll": nll, "test_accuracy": 1 - accuracy}

    monkeypatch.setattr(experiments, "trained", trained)
    design = tiny(alphas=(0.2, 1.0, 4.0), num_selection_seeds=2)
    done = []
    nothing = kept.Kept({}, {}, pathlib.Path("w"))
    tried = experiments.choose(design, "iris", "mixup", pathlib.Path("w"), done.append, nothing)
    assert [entry["alpha"] for entry in tried] == [4.0, 1.0, 0.2]
    assert len(done) == 6
    assert experiments.choose(design, "iris", "erm", pathlib.Path("w"), done.append, nothing) == [{"alpha": None}]
    assert len(done) == 6


def test_a_seed_draws_the_same_samples_for_all_methods():
    design = tiny()
    alphas = {"erm": None, "mixup": 0.2}
    erm, mixup = (comparison.run(design, "iris", method, alphas[method], 3).config for method in design.methods)
    other = comparison.run(design, "iris", "erm", None, 4).config
    assert erm.data == mixup.data != other.data
    assert (erm.seed, erm.data.split_seed, mixup.mix.policy) == (3, 3, "mixup(alpha=0.2)")
    assert erm.mix == design.methods["erm"]


@pytest.mark.slow
def test_runs_that_have_ended_are_kept_and_a_further_method_costs_its_own(tmp_path, monkeypatch, capsys):
    design = tiny()
    results = experiments.compare(design, tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == comparison.num_runs(design) == 2 + 4
    assert len(results["runs"]) == 4
    for run in results["runs"]:
        assert set(run["values"]) >= set(design.measures)
        folder = tmp_path / "iris" / ("erm" if run["method"] == "erm" else f"mixup_alpha={run['alpha']:g}")
        last = json.loads((folder / f"seed={run['seed']}" / "metrics.jsonl").read_text().splitlines()[-1])
        assert run["values"]["accuracy"] == pytest.approx(last["test_accuracy"], abs=1e-6)
    assert results["cost"]["iris"]["erm"] == [1, 1, 1]
    low, middle, high = results["cost"]["iris"]["mixup"]
    assert 0 < low <= middle <= high

    started = []
    train = classifier.train_and_evaluate
    monkeypatch.setattr(
        classifier, "train_and_evaluate", lambda *args: started.append(args[0].mix.policy) or train(*args)
    )
    monkeypatch.setattr(cost, "step_ratios", lambda configs, dataset: {name: [1, 1, 1] for name in configs})
    more = dataclasses.replace(design, methods=design.methods | {"kmixup": config.Mix("kmixup(k=2, solver='exact')")})
    again = experiments.compare(more, tmp_path)
    assert started == ["kmixup(k=2, solver='exact')"] * 2
    assert [run for run in again["runs"] if run["method"] != "kmixup"] == results["runs"]
    elsewhere = experiments.compare(more, tmp_path / "elsewhere", json.loads(json.dumps(again)))
    assert len(started) == 2
    assert elsewhere == again | {"kept": []}
    assert {"key", "commit", "date"} <= {*again["runs"][0], *again["selection"][0]["candidates"][0]["runs"][0]}


def test_a_run_that_a_record_has_is_made_again_where_anything_differs_but_the_place_of_its_data(tmp_path, monkeypatch):
    design, made = tiny(), []
    run, how = comparison.run(design, "iris", "mixup", 1.0, 0), "limit=0 rescaling="

    def has(run, how, *, digests=("", ""), **mix):
        record = {"runs": [{"key": kept.key_of(run, how, digests), "values": {"nll": 1.0}}]}
        return kept.Kept(record, {"iris": digests[0]} if digests[0] else {}, tmp_path)

    def make():
        made.append(None)
        return {"values": {"nll": 2.0}}

    placed = comparison.run(comparison.placed(design, data_dir=str(tmp_path)), "iris", "mixup", 1.0, 0)
    assert has(run, how).get(placed, how, ("nll",), make)["values"] == {"nll": 1.0}
    moved = dataclasses.replace(run, config=dataclasses.replace(run.config, data=config.Data(name="b/own.npz")))
    own = dataclasses.replace(run, config=dataclasses.replace(run.config, data=config.Data(name="a/own.npz")))
    assert has(own, how, digests=("d", "")).get(moved, how, ("nll",), make)["values"] == {"nll": 1.0}
    assert made == []
    others = [
        (run, "limit=500 rescaling=", ("nll",), has(run, how)),
        (run, how, ("nll", "accuracy"), has(run, how)),
        (run, how, ("nll",), has(run, how, digests=("other", ""))),
        (comparison.run(design, "iris", "mixup", 0.2, 0), how, ("nll",), has(run, how)),
        (comparison.run(design, "iris", "mixup", 1.0, 1), how, ("nll",), has(run, how)),
    ]
    for other, measured, keys, place in others:
        place.digests = {}
        assert place.get(other, measured, keys, make)["values"] == {"nll": 2.0}
    before = has(run, how)
    monkeypatch.setattr("jax.device_count", lambda: 99)
    assert before.get(run, how, ("nll",), make)["values"] == {"nll": 2.0}
    assert len(made) == 6


def test_a_run_with_a_vae_is_made_again_where_the_vae_is_another(tmp_path):
    vae = tmp_path / "vae" / "checkpoints" / "7"
    vae.mkdir(parents=True)
    (vae / "manifest.json").write_text("one")
    run = comparison.run(
        tiny(methods={"v": config.Mix("varmixup(alpha={alpha})", vae=str(tmp_path / "vae"))}), "iris", "v", 1.0, 0
    )
    first = kept.Kept({}, {}, tmp_path).get(run, "", ("nll",), dict)["key"]
    assert kept.Kept({}, {}, tmp_path).get(run, "", ("nll",), dict)["key"] == first
    other = dataclasses.replace(run.config.data, name="wine")
    elsewhere = dataclasses.replace(run, config=dataclasses.replace(run.config, data=other))
    assert kept.Kept({}, {}, tmp_path).get(elsewhere, "", ("nll",), dict)["key"] != first
    (vae / "manifest.json").write_text("two")
    assert kept.Kept({}, {}, tmp_path).get(run, "", ("nll",), dict)["key"] != first


def test_what_is_made_says_where_and_when_and_what_is_not_asked_for_is_kept(tmp_path):
    run = comparison.run(tiny(), "iris", "mixup", 1.0, 0)
    run.folder(tmp_path).mkdir(parents=True)
    (run.folder(tmp_path) / "environment.json").write_text(
        json.dumps({"commit": "OLD", "jax": "0.1", "devices": "d", "host": "h"})
    )
    place = kept.Kept({"runs": [{"key": "k", "values": {}}]}, {}, tmp_path)
    entry = place.get(run, "", ("nll",), dict)
    assert (entry["commit"], entry["jax"], entry["devices"], entry["host"]) == ("OLD", "0.1", "d", "h")
    assert place.others() == [{"key": "k", "values": {}}]
    assert kept.kept_in({"kept": place.others()}) == {"k": {"key": "k", "values": {}}}
    written = record({"erm": [0.5, 0.7], "mixup": [0.5, 0.7]})
    for made in written["runs"][2:]:
        made.update(entry, date="2026-01-02")
    caption = next(line for line in comparison_report.tables(written) if line.startswith("Mean"))
    assert caption.endswith("`c`, 1 x cpu on h, jax 0, 2026-01-01; d on h, jax 0.1, 2026-01-02, OLD.")


def test_data_sets_that_differ_in_their_size_alone_are_drawn_as_curves(tmp_path, monkeypatch):
    first = [0.5, 0.7, 0.9]
    written = record({"erm": first, "mixup": [value + 0.01 for value in first]})
    written["runs"] = [{**run, "dataset": title} for title in ("few", "many") for run in written["runs"]]

    def sizes(few, many):
        return comparison_figure._sizes({"few": {"data": few}, "many": {"data": many}})

    few, many = {"name": "d", "num_train": 10}, {"name": "d", "num_train": 200}
    assert sizes(few, many) == {"few": 10, "many": 200}
    assert sizes(few, many | {"name": "e"}) == sizes(few, few) == sizes(few, many | {"num_train": 0}) == {}
    drawn, figure = [], comparison_figure.figure
    monkeypatch.setattr(comparison_figure, "figure", lambda *size: drawn.append(figure(*size)) or drawn[-1])
    for second in (many, many | {"name": "e"}):
        written["design"]["datasets"] = {"few": {"data": few}, "many": {"data": second}}
        comparison_figure.draw(written, tmp_path / "drawn.png")
    left, right = drawn[0].axes
    low, high = ([line.lines[0].get_ydata().tolist() for line in axes.containers] for axes in (left, right))
    np.testing.assert_allclose(low, [[70, 70], [71, 71]])
    np.testing.assert_allclose(high, [[1, 1]])
    [bar] = right.containers[0].lines[2]
    ends = np.array(bar.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 0, atol=1e-6)  # all seeds differ alike
    [bar] = left.containers[0].lines[2]
    ends = np.array(bar.get_segments())[0, :, 1]
    np.testing.assert_allclose(ends, stats.t.interval(0.95, 2, 70, stats.sem([50, 70, 90])))
    assert [axes.get_title() for axes in drawn[1].axes] == ["accuracy (points)"] * 2


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}'])
def test_what_is_no_record_is_named_before_it_is_written_over(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UsageError, match=r"results\.json is not a record of a comparison"):
        comparison_report.read(tmp_path / "results.json")
    assert comparison_report.read(tmp_path / "nothing.json") == {}


@pytest.mark.slow
def test_a_run_that_was_stopped_after_its_last_epoch_is_not_taken_for_ended(tmp_path):
    """Its metrics are written before its last checkpoint, which may be damaged since, too."""
    design = tiny()
    run = comparison.run(design, "iris", "erm", None, 0)
    experiments.trained(run, tmp_path)
    folder = run.folder(tmp_path)
    [checkpoint] = [path for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
    content = (checkpoint / "manifest.json").read_text()
    (checkpoint / "manifest.json").write_text("{}")
    assert run_folder.finished(folder, run.config) is None
    (checkpoint / "manifest.json").write_text(content)
    assert run_folder.finished(folder, run.config) is not None
    checkpoint.rename(tmp_path / "aside")
    assert run_folder.finished(folder, run.config) is None


@pytest.mark.slow
def test_the_benchmark_on_cifar_100_runs_with_a_narrow_network(tmp_path, monkeypatch):
    """Its step in bfloat16, with crops, flips and a hundred classes, and all that it measures; on noise."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{name}": drawn
        for split, n in (("train", 200), ("test", 200))
        for name, drawn in (
            ("images", rng.integers(0, 256, (n, 32, 32, 3), np.uint8)),
            ("labels", np.arange(n, dtype=np.int32) % 100),
        )
    }
    np.savez(tmp_path / "noise.npz", **arrays)
    design = cli.load(ROOT / "train" / "configs" / "compare_cifar100.py", "get_comparison", Comparison)
    base = design.datasets["cifar100"]
    small = dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, name=str(tmp_path / "noise.npz")),
        model=dataclasses.replace(base.model, width=2),
        num_epochs=1,
        eval_epochs=1,
    )
    monkeypatch.setattr(corruptions, "CORRUPTIONS", {"contrast": corruptions.CORRUPTIONS["contrast"]})
    monkeypatch.setattr(robustness, "SEVERITIES", (1,))
    design = dataclasses.replace(design, datasets={"cifar100": small}, limit=20)
    run = comparison.run(design, "cifar100", "multimix", None, 0)
    assert (run.config.model.dtype, run.config.data.augmentation) == ("bfloat16", "pad_crop,flip")
    values = experiments.evaluated(run, tmp_path / "w", design).values
    assert {*design.measures} <= values.keys()
    assert {key for key in design.measures if not np.isfinite(values[key])} <= {"ece_scaled"}, (
        "noise has no temperature"
    )


@pytest.mark.slow
def test_everything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        cli,
        "load",
        lambda *_: tiny(
            alphas=(),
            rescalings=("outputs",),
            measures=("accuracy", "nll"),
            methods={"erm": config.Mix("erm"), "mixup": config.Mix("mixup")},
        ),
    )
    results = tmp_path / "results.json"
    arguments = ["--config=train/configs/compare_digits.py", f"--workdir={tmp_path / 'w'}", f"--results={results}"]
    assert compare.main(arguments) == 0
    written = json.loads(results.read_text())
    assert written["command"] == "python -m train.compare --config=train/configs/compare_digits.py"
    text = (tmp_path / "w" / "table.md").read_text()
    assert text == "\n".join([*comparison_report.tables(written), "", *claims_lib.lines([written])]) + "\n"
    assert text in capsys.readouterr().out
    rows = (tmp_path / "w" / "runs.csv").read_text().splitlines()
    assert rows[0] == "dataset,method,alpha,seed,accuracy,nll"
    assert [row.split(",")[1] for row in rows[1:4]] == ["erm", "mixup", '"mixup']
    assert len(rows) == 7
    assert re.search(r"^\| mixup, output only \| `mixup` \|.* \|  \|$", text, re.MULTILINE)
    plain, rescaled = (comparison.column(written, "iris", row, "nll") for row in ("mixup", "mixup, output only"))
    assert min(abs(a - b) for a, b in zip(plain, rescaled, strict=True)) > 1e-3
    assert "Alpha is the best" not in text
    assert (tmp_path / "w" / "differences.png").read_bytes().startswith(b"\x89PNG")
    assert "| Somebody says so | NLL | mixup - erm | " in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_seeds": 1}, "num_seeds must be at least 2"),
        ({"measures": ("accuracy",)}, "unknown measure of a claim nll"),
        ({"rescalings": ("input",)}, "unknown rescaling input: did you mean inputs?"),
        ({"rescalings": ("both",)}, "alignment does not depend on logits, which rescalings change"),
        ({"measures": ("nll_rescaled",)}, "nll_rescaled is measured by train.evaluate only"),
        (
            {"rescalings": ("both",), "measures": ("nll",), "methods": {"erm": config.Mix("erm")}, "alphas": ()},
            "rescalings apply to no method",
        ),
        (
            {
                "rescalings": ("both",),
                "measures": ("nll",),
                "methods": {name: config.Mix("mixup") for name in ("mixup", "mixup, rescaled")},
                "alphas": (),
            },
            "two of the rows ",
        ),
        ({"num_selection_seeds": 0}, "num_selection_seeds must be at least 1"),
        ({"measures": ("nll", "mean_corruption_error_unnormalised")}, "is measured by train.evaluate only"),
        (
            {"measures": ("temperature",), "claims": (Claim("S", "s", "temperature", ("mixup",), "erm"),)},
            "a claim on temperature cannot be judged",
        ),
        ({"measures": ("accuracy", "nll", "ecee")}, "unknown measure ecee: did you mean ece?"),
        ({"methods": {"erm": config.Mix("erm")}, "alphas": ()}, "unknown method of a claim mixup"),
        ({"methods": {"erm": config.Mix("erm")}}, "alphas=(0.2, 1.0) and policies with {alpha}, none: give both or"),
        ({"methods": {"erm": config.Mix("emr"), "mixup": config.Mix("mixup(alpha={alpha})")}}, "jaxmix has no emr"),
        ({"alphas": ()}, "alphas=() and policies with {alpha}, mixup: give both or neither"),
        ({"datasets": {"d": config.Config()}}, "d needs data.num_validation"),
        ({"by_corruption": ("erm",)}, "unknown measure by corruption corrupted_accuracy"),
        (
            {"by_corruption": ("mixup",), "measures": ("nll", "corrupted_accuracy")},
            "by_corruption shows differences to erm: name that row first",
        ),
    ],
)
def test_a_comparison_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        comparison.check(tiny(**changes))


def test_mistakes_end_with_one_line(capsys):
    assert compare.main(["--config=train/configs/compare_digit.py"]) == 2
    errors = capsys.readouterr().err
    assert errors == (
        "train.compare: unknown config train/configs/compare_digit.py: did you mean train/configs/compare_digits.py?\n"
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_comparisons_fit(path):
    comparison.check(cli.load(path, "get_comparison", Comparison))


def compared(design):
    """What results say that they compared; of those from before policies, a tuned alpha is said by alphas alone."""
    parts = {key: tuple(value) if isinstance(value, list) else value for key, value in design.items()}
    parts["datasets"] = {name: config.from_tree(config.Config, tree) for name, tree in design["datasets"].items()}
    methods = {name: config.from_tree(config.Mix, tree) for name, tree in design["methods"].items()}
    for name, mix in methods.items():
        if design["alphas"] and "policy" not in design["methods"][name]:
            mix.policy = mix.policy.replace("alpha=1.0", "alpha={alpha}")
    claims = tuple(Claim(**claim | {"methods": tuple(claim["methods"])}) for claim in design["claims"])
    return Comparison(**parts | {"methods": methods, "claims": claims})


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_results_are_of_the_shipped_comparison_and_name_no_place(path):
    written = json.loads(path.read_text())
    design = cli.load(ROOT / "train" / "configs" / path.name.replace("json", "py"), "get_comparison", Comparison)
    assert compared(written["design"]) == comparison.placed(design, data_dir="", manual_dir="")
    rows = sum(len(comparison.rows(design, method)) for method in design.methods)
    expected = len(design.datasets) * rows * design.num_seeds
    assert len(written["runs"]) == expected
    assert {run["seed"] for run in written["runs"]} == set(range(design.num_seeds))
    assert not re.search(r'"/|[.][.]/|/home|/tmp|/root', path.read_text())
