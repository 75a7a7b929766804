"""What may go wrong while a run is trained, and that nothing is lost: signals, kills, disks, broken files, NaN."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.conftest import ROOT, final_state, free_port, once, rows, run, setup, small_config, start
from train import config, data, main
from train.data import splits
from train.errors import DivergedError, UsageError
from train.learning import mixing
from train.measuring import predictor
from train.running import checkpoints, manifest, parallel, run_folder
from train.tasks import classifier

pytestmark = pytest.mark.slow

LONG = (
    "--config.num_epochs=7",
    "--config.model.width=4",
    "--config.mix.policy=mixup(alpha=linear(1.0, 0.2))",
    "--config.mix.space=embeddings",
    "--config.mix.clean_epochs=1",
    "--config.data.augmentation=pad_crop",
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.1",
    "--config.checkpoint_steps=6",
    "--config.data.num_validation=100",
    "--config.optimizer.ema=0.9",
    "--config.optimizer.accumulate=2",
    "--config.optimizer.clip_norm=1",
    "--config.keep_best=accuracy",
)  # 70 steps with batch statistics, a schedule, augmentation, an average of the parameters, parts of batches


@pytest.fixture(scope="module")
def unbroken(common, tmp_path_factory, programs):
    """A run that nothing happens to."""

    def make(folder):
        result = run(*LONG, f"--workdir={folder}", devices=2, cache=programs)
        assert result.returncode == 0, result.stderr

    return once(common, "unbroken", make, tmp_path_factory.mktemp("unbroken") / "run")


def steps(folder):
    """Of the checkpoints that are there."""
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdecimal())


def reaches(folder, step):
    """Whether there is a checkpoint of this step, or a later one."""
    return lambda: max(steps(folder), default=0) >= step


def wait_for(process, what, seconds=120):
    """Until something holds, or the process has ended; returns whether it is alive."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not what():
        time.sleep(0.002)
    return process.poll() is None


# --- signals and kills


def test_a_run_that_is_killed_and_stopped_ends_bit_for_bit(unbroken, tmp_path, programs):
    """SIGKILL at a random step and during a save; SIGTERM and SIGINT in the middle of an epoch."""
    folder = tmp_path / "broken"
    flags = (*LONG, f"--workdir={folder}")
    for seed, during_a_save in enumerate((False, True)):
        rng, before = random.Random(seed), max(steps(folder), default=0)
        process = start(*flags, devices=2, cache=programs)
        assert wait_for(process, reaches(folder, before + 6))
        if during_a_save:
            assert wait_for(process, lambda: any(folder.glob("checkpoints/saving-*")))
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = max(steps(folder))
        process = start(*flags, devices=2, cache=programs)
        assert wait_for(process, reaches(folder, before + 6))
        time.sleep(0.02)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        assert f"stopped at step {max(steps(folder))} of 70, saved" in errors
        assert f"continuing at step {before} of 70" in output
    result = run(*flags, devices=2, cache=programs)
    assert result.returncode == 0, result.stderr
    assert not any(folder.glob("checkpoints/[!0-9]*"))
    measured = [(row["validation_accuracy"], -row["step"]) for row in rows(unbroken)]
    best = -max(measured)[1]
    assert best in steps(unbroken)
    assert f"best by accuracy         {max(measured)[0]:.2%} in epoch {best // 10}, step {best}\n" in result.stdout
    for step in (best, 70):
        jax.tree.map(np.testing.assert_array_equal, final_state(folder, step), final_state(unbroken, step))
    assert rows(folder) == rows(unbroken)
    _, _, asked = predictor.load(folder, best=True, ema=True)
    kept = final_state(unbroken, best)["ema"]
    jax.tree.map(np.testing.assert_array_equal, asked._placed[0]["params"], kept["params"])
    jax.tree.map(np.testing.assert_array_equal, asked._placed[0]["batch_stats"], kept["batch_stats"])


def test_a_second_signal_ends_at_once():
    code = """
import os, time
from train.running import stopping
with stopping.requested() as signal:
    print("ready", flush=True)
    while not signal():
        time.sleep(0.01)
    print(signal(), flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "15\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130


def test_more_devices_may_go_on_with_a_run(unbroken, tmp_path, programs):
    """From one to four; what order and augmentation are does not depend on them, as loop_test shows."""
    flags = (*LONG, f"--workdir={tmp_path}")
    process = start(*flags, devices=1, cache=programs)
    assert wait_for(process, reaches(tmp_path, 30))
    process.kill()
    process.communicate()
    result = run(*flags, devices=4, cache=programs)
    assert result.returncode == 0, result.stderr
    assert "this run was on 1 x cpu" in result.stdout
    assert rows(tmp_path)[-1]["test_accuracy"] > rows(unbroken)[-1]["test_accuracy"] - 0.15


def test_processes_end_together_and_go_on_together(unbroken, tmp_path, programs):
    """Two processes of a device each, one killed, one asked to stop, end near one process of two."""

    def pair():
        where = [*LONG, f"--workdir={tmp_path}", f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
        return [start(*where, f"--process_id={i}", cache=programs) for i in range(2)]

    first, second = pair()
    assert wait_for(first, reaches(tmp_path, 6))
    second.kill()
    second.communicate()
    _, errors = first.communicate(timeout=60)
    assert first.returncode not in (0, None), errors

    first, second = pair()
    assert wait_for(first, reaches(tmp_path, 18))
    second.send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [143, 143], outputs
    assert f"stopped at step {max(steps(tmp_path))} of 70" in outputs[0][1]

    processes = pair()
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "continuing at step" in outputs[0][0]
    assert "test accuracy" in outputs[0][0]
    assert "test accuracy" not in outputs[1][0]
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30, 40, 50, 60, 70]
    one, other = final_state(tmp_path, 70), final_state(unbroken, 70)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), one, other)
    assert rows(tmp_path)[-1]["test_nll"] == pytest.approx(rows(unbroken)[-1]["test_nll"], rel=1e-3)


# --- disks


def test_a_full_disk_ends_the_run_and_costs_nothing_that_was_written(stopped, tmp_path, programs):
    """No file may grow over 20 kB, which the state does, and the rest does not."""

    shutil.copytree(stopped / "run", tmp_path / "run")
    flags = [*SHORT, f"--workdir={tmp_path / 'run'}"]
    result = run(*flags, devices=4, cache=programs, under=("prlimit", "--fsize=20000"))
    assert result.returncode == 5, result.stderr
    assert "the checkpoint of step 20 cannot be written" in result.stderr
    assert "continues from step 15" in result.stderr
    assert main.main(flags) == 0
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path / "run", 22), final_state(stopped / "whole", 22))


@pytest.mark.skipif(not shutil.which("setpriv"), reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_ends_the_run_at_once(tmp_path):
    tmp_path.chmod(0o555)
    as_others = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    result = run(*SHORT, f"--workdir={tmp_path / 'run'}", under=as_others)
    assert result.returncode == 5, result.stderr
    assert result.stderr == f"train.main: cannot write the run folder {tmp_path / 'run'}: Permission denied\n"


# --- broken files

SHORT = ("--config.num_epochs=2", "--config.model.width=4", "--config.mix.policy=erm", "--config.checkpoint_steps=5")


@pytest.fixture(scope="module")
def stopped(common, tmp_path_factory, programs):
    """A run in which the checkpoints of steps 10 and 15 of 22 are the last, and how it would have ended."""
    save = checkpoints.Checkpoints.save

    def stop(self, state, *rest):
        if int(state.step) == 20:
            raise KeyboardInterrupt
        save(self, state, *rest)

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints.Checkpoints, "save", stop)
            assert main.main([*SHORT, f"--workdir={folder / 'run'}"]) == 130
        assert main.main([*SHORT, f"--workdir={folder / 'whole'}"]) == 0
        assert steps(folder / "run") == [10, 15]

    return once(common, "stopped", make, tmp_path_factory.mktemp("stopped") / "runs")


@pytest.fixture
def faulty(stopped, tmp_path):
    """A copy of the run, to be broken."""
    shutil.copytree(stopped / "run", tmp_path / "run")
    return tmp_path / "run"


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    os.truncate(largest(folder), largest(folder).stat().st_size // 2)


def empty(folder):
    os.truncate(largest(folder), 0)


def delete(folder):
    largest(folder).unlink()


def flip_a_bit(folder):
    content = bytearray(largest(folder).read_bytes())
    content[len(content) // 2] ^= 1
    largest(folder).write_bytes(content)


def delete_the_manifest(folder):
    (folder / manifest.NAME).unlink()


def tear_the_manifest(folder):
    os.truncate(folder / manifest.NAME, 100)


def damage_the_metrics(folder):
    (folder / "metrics" / "metadata").write_text("[]")


def add_a_stray_folder(folder):
    (folder.parent / "99").mkdir()


FAULTS = (
    truncate,
    empty,
    delete,
    flip_a_bit,
    delete_the_manifest,
    tear_the_manifest,
    damage_the_metrics,
    add_a_stray_folder,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_checkpoint_is_set_aside_and_the_one_before_taken(fault, faulty, capsys):
    fault(faulty / "checkpoints" / "15")
    step, name = (15, "99") if fault is add_a_stray_folder else (10, "15")
    assert checkpoints.Checkpoints(faulty / "checkpoints", writes=True).step == step
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("passing over")
    assert f"checkpoints/{name}: " in line
    assert (faulty / "checkpoints" / f"broken-{name}").is_dir()


NEW = ("decay_vectors", "clip_norm", "accumulate", "ema", "keep_best", "measured")


def test_a_run_whose_last_checkpoint_is_broken_ends_bit_for_bit(faulty, stopped, capsys):
    """And is of an older version, whose configuration, states and manifests had fewer fields."""
    flip_a_bit(faulty / "checkpoints" / "15")
    assert set(final_state(faulty, 10)) == {"step", "params", "batch_stats", "opt_state"}
    replaced = {"config.json": {"mix": {"method": "erm", "alpha": 1.0}}, manifest.NAME: {"config": "a hash of those"}}
    for path in (faulty / "config.json", faulty / "checkpoints" / "10" / manifest.NAME):
        older = json.loads(path.read_text(), object_pairs_hook=lambda pairs: {k: v for k, v in pairs if k not in NEW})
        path.write_text(json.dumps(older | replaced[path.name]))
    assert main.main([*SHORT, f"--workdir={faulty}"]) == 0
    output = capsys.readouterr().out
    assert output.count("passing over") == 1
    assert "continuing at step 10 of 22" in output
    jax.tree.map(np.testing.assert_array_equal, final_state(faulty, 22), final_state(stopped / "whole", 22))
    assert rows(faulty) == rows(stopped / "whole")


def test_a_run_whose_checkpoints_are_all_broken_is_left_alone(faulty, capsys):
    for step in (10, 15):
        flip_a_bit(faulty / "checkpoints" / str(step))
    before = {path: path.read_bytes() for path in faulty.rglob("checkpoints/**/*") if path.is_file()}
    for _ in range(2):
        assert main.main([*SHORT, f"--workdir={faulty}"]) == 3
        assert capsys.readouterr().err.count("\n") == 1
    assert {path: path.read_bytes() for path in faulty.rglob("checkpoints/**/*") if path.is_file()} == before


def test_a_save_that_is_broken_off_before_its_manifest_leaves_no_checkpoint(stopped, tmp_path, monkeypatch):
    def stop(folder, *_):
        if folder.name == "saving-15":
            raise KeyboardInterrupt

    describe = manifest.describe
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "describe", lambda *arguments: stop(*arguments) or describe(*arguments))
        assert main.main([*SHORT, f"--workdir={tmp_path}"]) == 130
    assert (tmp_path / "checkpoints" / "saving-15").is_dir()
    assert steps(tmp_path) == [5, 10]
    assert main.main([*SHORT, f"--workdir={tmp_path}"]) == 0
    assert not (tmp_path / "checkpoints" / "saving-15").exists()
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path, 22), final_state(stopped / "whole", 22))


def test_a_reader_passes_over_what_is_broken_and_leaves_it(faulty, capsys):
    flip_a_bit(faulty / "checkpoints" / "15")
    assert checkpoints.Checkpoints(faulty / "checkpoints").step == 10
    assert steps(faulty) == [10, 15]
    assert capsys.readouterr().out.count("passing over") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": config.Model(width=8)}, r"params/.* is \(4,\) of float32 there and \(8,\) of float32 here"),
        ({"num_classes": 7}, r"params/head/bias is \(10,\) of float32 there and \(7,\) of float32 here"),
        ({"optimizer": config.Optimizer(name="sgd")}, r"opt_state/.* of float32 there and missing here"),
        ({"dtype": jnp.bfloat16}, r"params/.* of float32 there and \(.*\) of bfloat16 here"),
    ],
    ids=["width", "class_count", "optimizer", "dtype"],
)
def test_a_checkpoint_of_other_shapes_is_refused_with_both(change, message, stopped, digits):
    dataset = digits._replace(num_classes=change.pop("num_classes", 10))
    dtype = change.pop("dtype", None)
    chosen = dataclasses.replace(small_config(policy="erm"), **change)
    like = classifier.init(chosen, dataset, jax.random.key(0))
    like = parallel.place(like._replace(params=jax.tree.map(lambda x: x.astype(dtype or x.dtype), like.params)))
    saved = checkpoints.Checkpoints(stopped / "whole" / "checkpoints")
    with pytest.raises(UsageError, match=message):
        saved.restore(like)


def test_another_configuration_is_refused_unless_it_is_asked_for(faulty, capsys):
    changed = [*SHORT, "--config.optimizer.learning_rate=0.001", f"--workdir={faulty}"]
    assert main.main(changed) == 2
    assert "optimizer.learning_rate=0.003 there and 0.001 here" in capsys.readouterr().err
    assert main.main([*changed, "--allow_config_change", "--config.model.width=8"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "does not fit" in error
    assert main.main([*changed, "--allow_config_change"]) == 0
    assert "continuing at step 15 of 22" in capsys.readouterr().out
    assert main.main(changed) == 0


def test_a_checkpoint_of_another_configuration_is_refused(faulty, tmp_path, capsys):
    """One that was copied from another run."""
    flags = [
        *SHORT,
        "--config.num_epochs=1",
        "--config.optimizer.learning_rate=0.001",
        f"--workdir={tmp_path / 'other'}",
    ]
    assert main.main(flags) == 0
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    shutil.copytree(faulty / "checkpoints", tmp_path / "other" / "checkpoints")
    assert main.main(flags) == 2
    assert "was saved under another configuration" in capsys.readouterr().err


def test_a_run_folder_has_one_writer(faulty, capsys):
    with run_folder.claim(faulty, small_config(policy="erm"), allow_change=True):
        assert main.main([*SHORT, f"--workdir={faulty}", "--allow_config_change"]) == 6
        assert "is in use by another run" in capsys.readouterr().err
    assert main.main([*SHORT, f"--workdir={faulty}", "--allow_config_change"]) == 0


# --- what is not finite


def spoilt(value, places):
    """Iris, some of its training samples having a value that is not finite."""
    dataset = LOAD(config.Data(name="iris"))
    train = dataset.splits["train"]
    inputs = train.inputs.copy()
    inputs[places, 0] = value
    return dataset._replace(splits=dataset.splits | {"train": dataclasses.replace(train, inputs=inputs)})


LOAD = data.load

IRIS = dataclasses.replace(
    config.Config(),
    data=config.Data(name="iris", batch_size=8),
    model=config.Model(name="mlp"),
    mix=config.Mix("mixup"),
    num_epochs=3,
    checkpoint_steps=4,
)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_steps_that_see_a_sample_that_is_not_finite_are_skipped_and_counted(value, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda *_, **__: spoilt(value, slice(0, 2)))
    state = classifier.train_and_evaluate(IRIS, tmp_path)
    measured = rows(tmp_path)
    assert all(1 <= row["skipped_steps"] <= 2 for row in measured)
    assert all(np.isfinite(row["train_loss"]) for row in measured)
    assert measured[-1]["test_accuracy"] > 0.8
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    assert f"steps skipped  {sum(row['skipped_steps'] for row in measured)}, whose loss" in capsys.readouterr().out


def test_ten_skipped_steps_in_a_row_end_the_run_and_keep_what_was_good(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(data, "load", lambda *_, **__: spoilt(np.nan, slice(None)))
        with pytest.raises(DivergedError, match=r"epoch 1: loss or gradient of 10 steps in a row .* step 8 "):
            classifier.train_and_evaluate(IRIS, tmp_path)
    init = classifier.init(IRIS, data.load(IRIS.data), jax.random.split(jax.random.key(0))[0])
    kept = final_state(tmp_path, 8)
    jax.tree.map(np.testing.assert_array_equal, kept["params"], jax.device_get(init.params))
    assert kept["step"] == 8


def test_a_run_that_diverges_ends_with_a_code_of_its_own(tmp_path, capsys):
    flags = ["--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e30", f"--workdir={tmp_path}"]
    assert main.main([*SHORT, *flags]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lower optimizer.learning_rate, now 1e+30" in error


def test_a_skipped_step_leaves_the_whole_state_as_it_was_on_all_devices(digits):
    """One of four devices sees NaN; batch statistics, moments and parameters stay, the step goes on."""
    objective = mixing.build(config.Mix("erm"), num_steps=1)
    _, state, samples, step = setup(digits, objective, ema=0.9, accumulate=2)
    inputs = np.asarray(samples.inputs / np.float32(255))
    inputs[2, 0, 0, 0] = np.nan  # the second device's; what is read back is the first one's copy
    train_step = parallel.train_step(step)
    for first, skipped in ((0, 1), (8, 0)):
        batch = parallel.split(splits.Batch(np.arange(first, first + 8, dtype=np.int32)))
        placed = parallel.place((state, samples._replace(inputs=inputs)))
        before = jax.device_get(placed[0])
        after, metrics = train_step(placed[0], placed[1], batch, jax.random.key(0))
        assert float(metrics["skipped"]) == skipped
        assert int(after.step) == 1
        same = jax.tree.map(np.array_equal, jax.device_get(after)._replace(step=0), before._replace(step=0))
        assert (all if skipped else any)(jax.tree.leaves(same)) or not skipped
        assert skipped or not any((*jax.tree.leaves(same.params), *jax.tree.leaves(same.ema)))
