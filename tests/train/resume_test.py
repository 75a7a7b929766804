"""A run that is stopped, and one of several processes, ends as it would have ended otherwise."""

import dataclasses
import json
import socket
import time

import jax
import numpy as np
from orbax import checkpoint
import pytest

from tests.train.conftest import run, small_config, start
from train import checkpoints, classifier, config, main, parallel, reporting

FLAGS = (
    "--config.num_epochs=3",
    "--config.model.width=4",
    "--config.mix.method=mixup",
    "--config.mix.space=embeddings",
    "--config.mix.final_alpha=0.2",
    "--config.mix.clean_epochs=1",
    "--config.data.augmentation=pad_crop",
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.1",
    "--config.checkpoint_steps=3",
    "--config.data.num_validation=100",
)  # 30 steps


def final_state(folder, step=30):
    """As numpy arrays, on whatever devices they were."""
    path = folder.resolve() / "checkpoints" / str(step) / "state"
    with checkpoint.Checkpointer(checkpoint.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: checkpoint.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(path, args=checkpoint.args.PyTreeRestore(restore_args=as_numpy))


def rows(folder):
    measured = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in measured]


def kill_after(process, folder, step):
    """SIGKILL as soon as a checkpoint of a step from this one on is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        saved = [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
        if max(saved, default=0) >= step:
            break
        time.sleep(0.005)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, programs):
    """Killed in the middle of the first epoch and of the last; with batch statistics, augmentation, a schedule."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(*FLAGS, f"--workdir={whole}", devices=2, cache=programs).returncode == 0
    for step in (6, 24):
        assert kill_after(start(*FLAGS, f"--workdir={broken}", devices=2, cache=programs), broken, step), (
            "the run was faster"
        )
    result = run(*FLAGS, f"--workdir={broken}", devices=2, cache=programs)
    assert result.returncode == 0, result.stderr
    assert "going on at step" in result.stdout
    jax.tree.map(np.testing.assert_array_equal, final_state(broken), final_state(whole))
    assert rows(broken) == rows(whole)
    assert [row["epoch"] for row in rows(whole)] == [1, 2, 3]


def test_a_run_stopped_between_a_row_and_its_checkpoint_has_each_row_once(tmp_path, monkeypatch):
    chosen = dataclasses.replace(small_config(method="erm"), checkpoint_steps=11)
    classifier.train_and_evaluate(chosen, tmp_path / "whole")
    save = checkpoints.Checkpoints.save

    def stop_at_the_end(self, state, metrics, means):
        if int(state.step) == 22:
            raise KeyboardInterrupt
        save(self, state, metrics, means)

    with monkeypatch.context() as stopping:
        stopping.setattr(checkpoints.Checkpoints, "save", stop_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            classifier.train_and_evaluate(chosen, tmp_path / "broken")
    assert len(rows(tmp_path / "broken")) == 2
    classifier.train_and_evaluate(chosen, tmp_path / "broken")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


def test_a_run_that_is_done_says_its_result_again(tmp_path, capsys):
    first = classifier.train_and_evaluate(small_config(method="erm"), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    table = capsys.readouterr().out.splitlines()[-5:]
    again = classifier.train_and_evaluate(small_config(method="erm"), tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again, first)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    assert capsys.readouterr().out.splitlines()[-5:] == table


def test_two_processes_do_what_one_does(tmp_path, programs):
    """Two processes of two devices, killed and resumed, end near one process of four."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(*FLAGS, f"--workdir={alone}", devices=4, cache=programs).returncode == 0

    def pair():
        flags = [*FLAGS, f"--workdir={together}", f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
        return [start(*flags, f"--process_id={i}", devices=2, cache=programs) for i in range(2)]

    first, second = pair()
    assert kill_after(first, together, 15)
    second.kill()
    second.communicate()
    processes = pair()
    outputs = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "going on at step" in outputs[0][0]
    assert "test accuracy" in outputs[0][0]
    assert "test accuracy" not in outputs[1][0]
    np.testing.assert_equal([row["step"] for row in rows(together)], [10, 20, 30])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), final_state(together), final_state(alone))
    assert rows(together)[-1]["test_nll"] == pytest.approx(rows(alone)[-1]["test_nll"], rel=1e-3)


def test_processes_that_share_no_folder_all_end_with_a_message(tmp_path, programs):
    flags = [*FLAGS, f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    pair = [start(*flags, f"--process_id={i}", f"--workdir={tmp_path / str(i)}", cache=programs) for i in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [2, 2]
    assert "is not the run folder of all processes" in errors[1]
    assert "stopped, as another process did" in errors[0]


def test_a_run_killed_while_its_folder_was_opened_can_be_started(tmp_path):
    for name in ("environment.json", "config.partial"):
        (tmp_path / name).write_text("{}")
    reporting.open_folder(tmp_path, config.Config())
    assert (tmp_path / "config.json").exists()


def test_another_configuration_is_refused_with_the_difference(tmp_path, capsys):
    small = ["--config.num_epochs=1", "--config.model.width=2", "--config.mix.method=erm", f"--workdir={tmp_path}"]
    assert main.main(small) == 0
    capsys.readouterr()
    assert main.main([*small, "--config.mix.alpha=0.4", "--config.data.mean=(0.5,)", "--config.data.std=(1.0,)"]) == 2
    error = capsys.readouterr().err
    assert "data.mean=() there and (0.5,) here" in error
    assert "mix.alpha=1.0 there and 0.4 here" in error
    assert error.count("\n") == 1
    assert main.main([*small, "--config.checkpoint_steps=5", "--config.data.data_dir=x"]) == 0


def test_metrics_after_the_last_checkpoint_and_torn_lines_are_dropped(tmp_path):
    lines = [json.dumps({"epoch": epoch, "step": 10 * epoch}) for epoch in (1, 2, 3)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + '\n{"epoch": 4, "st')
    report = reporting.Report(tmp_path, "title", classifier.DISPLAY, step=25, total_steps=100, leads=True)
    assert [row["epoch"] for row in report.rows] == [1, 2]
    assert path.read_text() == "\n".join(lines[:2]) + "\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "4"}, True),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "4"}, False),  # an allocation in which nothing was started by srun
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ],
)
def test_clusters_are_recognised_from_the_environment(environment, expected):
    assert parallel.names_cluster(environment) is expected


def test_processes_share_a_batch_in_order(monkeypatch):
    order = np.arange(24).reshape(2, 12)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares = []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(parallel.share(order))
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), order)
