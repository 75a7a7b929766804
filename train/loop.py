"""A run from top to bottom: data, model, state, steps, log, checkpoint, evaluation; of whatever program is trained."""

from collections.abc import Callable, Mapping
import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from train import checkpoints, checks, data, parallel, reporting, steps
from train.config import UsageError


class Program(NamedTuple):
    """All that a run computes, as a configuration and its data determine it.

    Attributes:
      init: key -> the state before the first step.
      train_step: epoch -> the step of that epoch, over all devices.
      eval_step: (state, samples, batch, weights) -> sums over a batch, over all devices.
      measures: sums over a split -> its measures, by the keys of the display's columns.
      learning_rate: of a step.
      display: how the run is shown.
      first_inputs: (samples, batch, key) -> images in [0, 1] and labels that the first step sees on device 0.
    """

    init: Callable[[jax.Array], steps.TrainState]
    train_step: Callable[[int], Callable]
    eval_step: Callable[..., Any]
    measures: Callable[[Any], Mapping[str, float]]
    learning_rate: optax.Schedule
    display: reporting.Display
    first_inputs: Callable[..., tuple[jax.Array, jax.Array]]


def train_and_evaluate(
    config: Any, workdir: pathlib.Path, build: Callable[[Any, data.Dataset], Program]
) -> steps.TrainState:
    """Trains and evaluates as configured, and leaves a run folder.

    A run that was stopped in this folder goes on from its last checkpoint, and ends as if it
    had never been stopped.

    Args:
      config: everything that determines the run: data, optimizer, num_epochs, seed, checkpoint_steps, and more.
      workdir: the run folder, the same for all processes; made here, or of the same run.
      build: checks a configuration against its data, and makes the program of the two.

    Returns:
      The final state.

    Raises:
      UsageError: if the configuration cannot run, before anything is compiled; if the loss
        is no longer finite at the end of an epoch.
    """
    parallel.in_leader(functools.partial(data.prepare, config.data))
    dataset = parallel.in_all(functools.partial(data.load, config.data, seed=config.seed))
    train_split = dataset.splits["train"]
    batch_size = config.data.batch_size
    program = build(config, dataset)
    steps_per_epoch = len(train_split) // batch_size
    total_steps = config.num_epochs * steps_per_epoch
    init_rng, step_rng = jax.random.split(jax.random.key(config.seed))
    checks.fits(program.init, init_rng, what="config.model")
    parallel.in_leader(functools.partial(reporting.open_folder, workdir, config))
    parallel.in_all(functools.partial(reporting.sees_folder, workdir))

    state, step_rng = parallel.place((jax.jit(program.init)(init_rng), step_rng))
    samples = {
        name: parallel.place(steps.Samples(*split.resident, dataset.mean, dataset.std))
        for name, split in dataset.splits.items()
    }
    means = parallel.place(parallel.in_all(functools.partial(data.means, dataset)))
    saved = checkpoints.Checkpoints(workdir / "checkpoints")
    measured: checkpoints.Metrics = []
    if restored := saved.restore(state):
        state, measured = restored, saved.metrics()
    step = parallel.agreed(int(state.step), "the step to go on at")
    if 0 < step < total_steps and parallel.leads():
        print(f"going on at step {step} of {total_steps} in {workdir}", flush=True)

    watched = "validation" if "validation" in dataset.splits else "test"
    report = reporting.Report(
        workdir, config.title, program.display, step=step, total_steps=total_steps, leads=parallel.leads()
    )
    for epoch in range(step // steps_per_epoch, config.num_epochs):
        train_step = program.train_step(epoch)
        order = parallel.share(data.epoch_order(len(train_split), batch_size, seed=config.seed, epoch=epoch))
        read_at: list[float] = [time.perf_counter()]
        pending: dict[str, jax.Array] = {}
        for batch in train_split.batches(order[step % steps_per_epoch :], epoch=epoch):
            if step == 0 and parallel.leads() and len(train_split.shape) == 3:
                mine = jax.tree.map(lambda leaf: leaf[0], parallel.split(batch))
                report.inputs(*jax.device_get(jax.jit(program.first_inputs)(samples["train"], mine, step_rng)))
            state, metrics = train_step(state, samples["train"], parallel.split(batch), step_rng)
            if pending:  # the step before, read while this one runs
                measured.append(report.step(step, pending))
                read_at.append(time.perf_counter())
            step, pending = step + 1, metrics
            if step % config.checkpoint_steps == 0 and step % steps_per_epoch:
                measured.append(report.step(step, pending))
                read_at.append(time.perf_counter())
                pending = {}
                saved.save(state, measured, means)
        measured.append(report.step(step, pending))
        read_at.append(time.perf_counter())
        if len(read_at) > 2:
            del read_at[0]  # the first step may have been compiled
        row = {
            "epoch": epoch + 1,
            "step": step,
            **{f"train_{name}": sum(row[name] for row in measured) / len(measured) for name in measured[0]},
            "learning_rate": float(program.learning_rate(step - 1)),
            "images_per_second": (len(read_at) - 1) * batch_size / (read_at[-1] - read_at[0]),
        }
        for name in dict.fromkeys((watched, "test") if epoch + 1 == config.num_epochs else (watched,)):
            found = evaluate(program, state, samples[name], dataset.splits[name], batch_size)
            row |= {f"{name}_{key}": value for key, value in found.items()}
        if not all(map(math.isfinite, row.values())):
            raise UsageError(
                f"training diverged in epoch {epoch + 1}, its loss is no longer finite: "
                f"lower optimizer.learning_rate, now {config.optimizer.learning_rate}"
            )
        report.epoch(row, watched=watched)
        measured = []
        if step % config.checkpoint_steps == 0 or step == total_steps:
            saved.save(state, measured, means)
    saved.close()
    report.close(watched=watched)
    return state


def evaluate(
    program: Program, state: steps.TrainState, samples: steps.Samples, split: data.Split, batch_size: int
) -> Mapping[str, float]:
    """Measures a whole split: the same numbers for any batch size and device count."""
    order, weights = map(parallel.share, data.padded_order(len(split), batch_size))
    sums = [
        jax.device_get(program.eval_step(state, samples, parallel.split(batch), parallel.split(weight)))
        for batch, weight in zip(split.batches(order, epoch=0), weights, strict=True)
    ]
    return program.measures(jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *sums))
