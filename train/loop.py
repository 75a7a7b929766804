"""A run from top to bottom: data, model, state, steps, log, checkpoint, evaluation."""

import functools
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmix.evaluation import calibration
from train import checkpoints, data, models, objectives, parallel, reporting, steps
from train.config import Config, Mix, UsageError


def train_and_evaluate(config: Config, workdir: pathlib.Path) -> steps.TrainState:
    """Trains and evaluates as configured, and leaves a run folder.

    Args:
      config: everything that determines the run.
      workdir: the run folder, made here; it must not exist or be empty.

    Returns:
      The final state.

    Raises:
      UsageError: if the configuration cannot run, before anything is compiled; if the loss
        is no longer finite at the end of an epoch.
    """
    dataset = data.load(config.data)
    model = models.build(config.model, dataset.num_classes)
    batch_size, n = config.data.batch_size, len(dataset.train.labels)
    _check(config, n, dataset.train.images.shape[1:], dataset.num_classes)
    objective = objectives.build(config.mix)
    _make_folder(workdir)

    steps_per_epoch = n // batch_size
    total_steps = config.num_epochs * steps_per_epoch
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.optimizer.learning_rate, min(steps_per_epoch, total_steps - 1), total_steps
    )
    optimizer = optax.adamw(schedule, weight_decay=config.optimizer.weight_decay)
    init_rng, step_rng = jax.random.split(jax.random.key(config.seed))
    sample = jnp.zeros((1, *dataset.train.images.shape[1:]), jnp.float32)
    state = parallel.place(jax.jit(functools.partial(steps.init, model, optimizer))(sample, init_rng))

    mean, std = data.statistics(dataset.train)
    train_split, test_split, step_rng = parallel.place(
        (steps.Samples(*dataset.train, mean, std), steps.Samples(*dataset.test, mean, std), step_rng)
    )
    train_step = parallel.train_step(
        functools.partial(
            steps.train_step,
            model=model,
            objective=objective,
            optimizer=optimizer,
            num_classes=dataset.num_classes,
            axis_name=parallel.AXIS,
        )
    )
    eval_step = parallel.eval_step(functools.partial(steps.eval_step, model=model, axis_name=parallel.AXIS))

    report = reporting.Report(workdir, config, total_steps)
    for epoch in range(config.num_epochs):
        losses: list[float] = []
        pending: dict[str, jax.Array] = {}
        started, timed_steps = time.perf_counter(), steps_per_epoch
        for indices in data.epoch_order(n, batch_size, seed=config.seed, epoch=epoch):
            state, metrics = train_step(state, train_split, parallel.split(indices), step_rng)
            if pending:  # the step before, read while this one runs
                losses.append(report.step(pending))
            elif epoch == 0 and steps_per_epoch > 1:  # compilation is not timed
                jax.block_until_ready(state)
                started, timed_steps = time.perf_counter(), steps_per_epoch - 1
            pending = metrics
        losses.append(report.step(pending))
        if not math.isfinite(sum(losses)):
            raise UsageError(
                f"training diverged in epoch {epoch + 1}, its loss is no longer finite: "
                f"lower optimizer.learning_rate, now {config.optimizer.learning_rate}"
            )
        row = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * steps_per_epoch,
            "train_loss": sum(losses) / len(losses),
            "images_per_second": timed_steps * batch_size / (time.perf_counter() - started),
        }
        report.epoch(row | evaluate(eval_step, state, test_split, batch_size))
    checkpoints.save(workdir / "checkpoints", state)
    report.close()
    return state


def evaluate(eval_step, state: steps.TrainState, split: steps.Samples, batch_size: int) -> dict[str, float]:
    """Measures the whole split: the same numbers for any batch size and device count."""
    batches = data.padded_batches(len(split.labels), batch_size)
    sums: list[steps.Sums] = [
        jax.device_get(eval_step(state, split, parallel.split(indices), parallel.split(weights)))
        for indices, weights in batches
    ]
    total = jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *sums)
    return {
        "test_accuracy": float(total.correct / total.total),
        "test_nll": float(total.nll / total.total),
        "test_ece": float(calibration.expected_calibration_error(total.bins)),
    }


def _check(config: Config, n: int, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Checks sizes against one another, the mixing by tracing it on the shapes that a device gets."""
    batch_size, devices = config.data.batch_size, jax.device_count()
    if config.num_epochs < 1:
        raise UsageError(f"num_epochs must be at least 1, got {config.num_epochs}")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"seed must be from 0 to {2**32 - 1}, got {config.seed}")
    if not 0 < config.optimizer.learning_rate < math.inf or not 0 <= config.optimizer.weight_decay < math.inf:
        raise UsageError(f"learning_rate must be > 0, weight_decay >= 0, and both finite, got {config.optimizer}")
    if not devices <= batch_size <= n or batch_size % devices:
        raise UsageError(
            f"data.batch_size={batch_size} does not fit {devices} devices and {n} training samples: "
            f"take a multiple of {devices} from {devices} to {n // devices * devices}"
        )
    per_device = batch_size // devices
    try:
        _trace_mixing(config.mix, per_device, image_shape, num_classes)
    except (TypeError, ValueError) as error:
        where = f" (each of {devices} devices mixes {per_device} of {batch_size} samples)" if devices > 1 else ""
        raise UsageError(f"config.mix: {error}{where}") from None


def _trace_mixing(config: Mix, n: int, image_shape: tuple[int, ...], num_classes: int) -> None:
    batch = jax.ShapeDtypeStruct((n, *image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((n, num_classes), jnp.float32)
    jax.eval_shape(objectives.mix_fn(config), batch, labels, jax.random.key(0))


def _make_folder(workdir: pathlib.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if any(workdir.iterdir()):
            raise UsageError(f"run folder {workdir} holds a run already: name another by --workdir, or delete it")
    except OSError as error:
        raise UsageError(f"cannot write the run folder {workdir}: {error.strerror}") from None
