"""A run from top to bottom: data, model, state, steps, log, checkpoint, evaluation."""

from collections.abc import Callable
import dataclasses
import functools
import math
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmix.evaluation import calibration
from train import augmentation, checkpoints, checks, data, models, objectives, optimizers, parallel, reporting, steps
from train.config import Config, UsageError


class Program(NamedTuple):
    """What a configuration and its data determine: the model, and the steps over all devices."""

    model: models.Classifier
    augment: augmentation.Augment
    learning_rate: optax.Schedule
    init: Callable[[jax.Array], steps.TrainState]
    mixed_step: Callable
    clean_step: Callable
    eval_step: Callable


def build(config: Config, dataset: data.Dataset) -> Program:
    """Builds all that a run computes; nothing is compiled yet."""
    train_split = dataset.splits["train"]
    steps_per_epoch = len(train_split) // config.data.batch_size
    mixed_steps = (config.num_epochs - config.mix.clean_epochs) * steps_per_epoch
    model = models.build(config.model, train_split.shape, dataset.num_classes)
    augment = augmentation.build(config.data.augmentation, train_split.shape, cropped=train_split.resident[0] is None)
    learning_rate = optimizers.schedule(config.optimizer, steps_per_epoch=steps_per_epoch, num_epochs=config.num_epochs)
    optimizer = optimizers.build(config.optimizer, learning_rate)
    step = functools.partial(
        steps.train_step,
        model=model,
        augment=augment,
        optimizer=optimizer,
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS,
    )
    clean = dataclasses.replace(config.mix, method="erm", probability=1.0, clean_weight=0.0)
    return Program(
        model=model,
        augment=augment,
        learning_rate=learning_rate,
        init=functools.partial(steps.init, model, optimizer, jnp.zeros((1, *train_split.shape), jnp.float32)),
        mixed_step=parallel.train_step(
            functools.partial(step, objective=objectives.build(config.mix, num_steps=mixed_steps))
        ),
        clean_step=parallel.train_step(functools.partial(step, objective=objectives.build(clean, num_steps=0))),
        eval_step=parallel.eval_step(functools.partial(steps.eval_step, model=model, axis_name=parallel.AXIS)),
    )


def train_and_evaluate(config: Config, workdir: pathlib.Path) -> steps.TrainState:
    """Trains and evaluates as configured, and leaves a run folder.

    A run that was stopped in this folder goes on from its last checkpoint, and ends as if it
    had never been stopped.

    Args:
      config: everything that determines the run.
      workdir: the run folder, the same for all processes; made here, or of the same run.

    Returns:
      The final state.

    Raises:
      UsageError: if the configuration cannot run, before anything is compiled; if the loss
        is no longer finite at the end of an epoch.
    """
    parallel.in_leader(functools.partial(data.prepare, config.data))
    dataset = parallel.in_all(functools.partial(data.load, config.data, seed=config.seed))
    train_split = dataset.splits["train"]
    checks.check(config, dataset, devices=jax.device_count())
    batch_size, mixed_epochs = config.data.batch_size, config.num_epochs - config.mix.clean_epochs
    steps_per_epoch = len(train_split) // batch_size
    total_steps = config.num_epochs * steps_per_epoch

    program = build(config, dataset)
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
    report = reporting.Report(workdir, config, step=step, total_steps=total_steps, leads=parallel.leads())
    for epoch in range(step // steps_per_epoch, config.num_epochs):
        train_step = program.mixed_step if epoch < mixed_epochs else program.clean_step
        order = parallel.share(data.epoch_order(len(train_split), batch_size, seed=config.seed, epoch=epoch))
        read_at: list[float] = [time.perf_counter()]
        pending: dict[str, jax.Array] = {}
        for batch in train_split.batches(order[step % steps_per_epoch :], epoch=epoch):
            if step == 0 and parallel.leads() and len(train_split.shape) == 3:
                report.inputs(
                    *_first_inputs(config, samples["train"], batch, step_rng, program.augment, dataset.num_classes)
                )
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
            row |= evaluate(program.eval_step, state, samples[name], dataset.splits[name], batch_size, name=name)
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
    eval_step: Callable,
    state: steps.TrainState,
    samples: steps.Samples,
    split: data.Split,
    batch_size: int,
    *,
    name: str,
) -> dict[str, float]:
    """Measures a whole split: the same numbers for any batch size and device count."""
    order, weights = map(parallel.share, data.padded_order(len(split), batch_size))
    sums: list[steps.Sums] = [
        jax.device_get(eval_step(state, samples, parallel.split(batch), parallel.split(weight)))
        for batch, weight in zip(split.batches(order, epoch=0), weights, strict=True)
    ]
    summed = jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *sums)
    return {
        f"{name}_accuracy": float(summed.correct / summed.total),
        f"{name}_nll": float(summed.nll / summed.total),
        f"{name}_ece": float(calibration.expected_calibration_error(summed.bins)),
    }


def _first_inputs(config, samples, batch, rng, augment, num_classes) -> tuple[np.ndarray, np.ndarray]:
    """What the first step shows to device 0."""
    mine = jax.tree.map(lambda leaf: leaf[0], parallel.split(batch))
    mix = objectives.slots(config.mix, config.mix.alpha).inputs
    show = functools.partial(steps.first_inputs, augment=augment, mix=mix, num_classes=num_classes)
    return jax.device_get(jax.jit(show)(samples, mine, rng))
