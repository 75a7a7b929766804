"""A run that is stopped, and one of several processes, ends as it would have ended otherwise."""

import dataclasses
import io
import json
import re
import sys
import time

import jax
import numpy as np
import pytest

from tests.train.conftest import free_port, rows, small_config, start
from train import config
from train.running import checkpoints, parallel, reporting, run_folder
from train.tasks import classifier

FLAGS = ("--config.num_epochs=3", "--config.model.width=4", "--config.mix.policy=mixup")


@pytest.mark.slow
def test_a_run_stopped_between_a_row_and_its_checkpoint_has_each_row_once(tmp_path, monkeypatch):
    chosen = dataclasses.replace(small_config(policy="erm"), checkpoint_steps=11)
    classifier.train_and_evaluate(chosen, tmp_path / "whole")
    save = checkpoints.Checkpoints.save

    def stop_at_the_end(self, state, *rest):
        if int(state.step) == 22:
            raise KeyboardInterrupt
        save(self, state, *rest)

    with monkeypatch.context() as stopping:
        stopping.setattr(checkpoints.Checkpoints, "save", stop_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            classifier.train_and_evaluate(chosen, tmp_path / "broken")
    assert len(rows(tmp_path / "broken")) == 2
    classifier.train_and_evaluate(chosen, tmp_path / "broken")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_done_says_its_result_again(tmp_path, capsys):
    first = classifier.train_and_evaluate(small_config(policy="erm"), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    table = capsys.readouterr().out.splitlines()[-5:]
    again = classifier.train_and_evaluate(small_config(policy="erm"), tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again, first)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    assert capsys.readouterr().out.splitlines()[-5:] == table


@pytest.mark.slow
def test_processes_that_share_no_folder_all_end_with_a_message(tmp_path, programs):
    flags = [*FLAGS, f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    pair = [start(*flags, f"--process_id={i}", f"--workdir={tmp_path / str(i)}", cache=programs) for i in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [7, 2]
    assert "is not the run folder of all processes" in errors[1]
    assert "stopped because another process did" in errors[0]


@pytest.mark.slow
def test_a_run_killed_while_its_folder_was_opened_can_be_started(tmp_path):
    for name in ("environment.json", "config.partial"):
        (tmp_path / name).write_text("{}")
    run_folder.claim(tmp_path, config.Config()).close()
    assert (tmp_path / "config.json").exists()


def test_metrics_after_the_last_checkpoint_and_torn_lines_are_dropped(tmp_path):
    lines = [json.dumps({"epoch": epoch, "step": 10 * epoch}) for epoch in (1, 2, 3)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + '\n{"epoch": 4, "st')
    report = reporting.Report(tmp_path, "title", classifier.DISPLAY, step=25, total_steps=100, leads=True)
    assert [row["epoch"] for row in report.rows] == [1, 2]
    assert path.read_text() == "\n".join(lines[:2]) + "\n"


def test_a_log_is_not_silent_during_a_long_epoch(tmp_path, monkeypatch, capsys):
    now = 0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    report = reporting.Report(tmp_path, "title", classifier.DISPLAY, step=0, total_steps=100, leads=True)
    for step in range(1, 9):
        now += 25
        report.step(step, {"loss": np.float32(1 / step)})
    assert capsys.readouterr().out == "step 3 of 100  loss 0.3333\nstep 6 of 100  loss 0.1667\n"


def test_the_bar_says_how_long_the_run_will_take(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    report = reporting.Report(tmp_path, "title", classifier.DISPLAY, step=10, total_steps=100, leads=True)
    for step in (11, 12):
        time.sleep(0.15)
        report.step(step, {"loss": np.float32(0.5)})
    shown = terminal.getvalue().split("\r")[-1]
    assert re.search(r"12/100 \[\d\d:\d\d<\d\d:\d\d, .*, loss=0.500\]", shown)


@pytest.mark.parametrize(("compiled", "speed"), [(False, 128 / 2), (True, 3 * 128 / 104)])
def test_speed_is_without_what_the_first_step_takes_to_compile(compiled, speed, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Silent:
        def step(self, step, metrics):
            nonlocal now
            now += 100 if step == 1 else 2
            return metrics

    epoch = reporting.Epoch(Silent(), [], compiled=compiled)
    for step in (1, 2, 3):
        epoch.add(step, {"loss": 1.0, "skipped": 0.0})
    assert epoch.row(128)["images_per_second"] == pytest.approx(speed)
    one = reporting.Epoch(Silent(), [], compiled=compiled)
    one.add(1, {"loss": 1.0, "skipped": 0.0})
    assert ("images_per_second" in one.row(128)) == compiled


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
