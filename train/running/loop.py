"""A run from top to bottom, for any task: data, model, state, steps, log, checkpoint, evaluation."""

from collections.abc import Callable, Mapping
import contextlib
import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from train import config as config_lib
from train import data
from train.data import splits
from train.errors import DivergedError, StoppedError, UsageError
from train.learning import averages, checks, steps
from train.running import best, checkpoints, description, parallel, profiling, reporting, run_folder, stopping

MOST_SKIPPED = 10  # steps in a row


class Program(NamedTuple):
    """The computations of a run, as its configuration and data determine them.

    Attributes:
      init: key -> the state before the first step.
      train_step: epoch -> the step of that epoch, over all devices.
      eval_step: (state, samples, batch, weights) -> sums over a batch, over all devices.
      measures: sums over a split -> its measures, by the keys of the display's columns.
      learning_rate: step -> learning rate.
      display: how to show the run.
      first_inputs: (samples, batch, key) -> images in [0, 1] and labels that the first step sees on device 0.
      model: the Flax module, and the arguments and options of its call.
      keep_best: measure of the validation split that chooses the best checkpoint; empty to keep none.
    """

    init: Callable[[jax.Array], steps.TrainState]
    train_step: Callable[[int], Callable]
    eval_step: Callable[..., Any]
    measures: Callable[[Any], Mapping[str, float]]
    learning_rate: optax.Schedule
    display: reporting.Display
    first_inputs: Callable[..., tuple[jax.Array, jax.Array]]
    model: tuple[Any, tuple[Any, ...], Mapping[str, Any]]
    keep_best: str = ""


Build = Callable[[Any, data.Dataset], Program]
"""Checks a configuration against its data, and makes the program of the two."""


def prepare(config: Any, build: Build) -> tuple[data.Dataset, Program]:
    """Loads the data and builds the program, in all processes together; nothing is compiled yet.

    Prints a line if the run is too short for its average.

    Raises:
      ProgramError: if the run cannot start.
    """
    parallel.in_leader(functools.partial(data.prepare, config.data))
    dataset = parallel.in_all(functools.partial(data.load, config.data, seed=config.seed))
    program = build(config, dataset)
    checks.fits(program.init, jax.random.key(config.seed), what="config.model")
    total_steps = config.num_epochs * (len(dataset.splits["train"]) // config.data.batch_size)
    warning = averages.warning(config.optimizer.ema, steps=total_steps)
    if warning and parallel.leads():
        print(warning, flush=True)
    return dataset, program


def train_and_evaluate(
    config: Any,
    workdir: pathlib.Path,
    build: Build,
    *,
    allow_config_change: bool = False,
    profile_steps: range = range(0),
) -> steps.TrainState:
    """Trains and evaluates as configured, and writes a run folder.

    A run that was stopped in this folder continues from its last checkpoint, and ends as if it
    had never stopped.

    Args:
      config: the configuration: data, optimizer, num_epochs, seed, checkpoint_steps, and more.
      workdir: the run folder, the same for all processes; a new one, or that of the same run.
      build: makes the program from a configuration and its data.
      allow_config_change: whether the run in the folder may have another configuration.
      profile_steps: the steps to profile, by the number of steps before each.

    Returns:
      The final state.

    Raises:
      ProgramError: if the run cannot start, before anything is compiled, or cannot continue; see train.errors.
    """
    dataset, program = prepare(config, build)
    train_split = dataset.splits["train"]
    batch_size = config.data.batch_size
    steps_per_epoch = len(train_split) // batch_size
    total_steps = config.num_epochs * steps_per_epoch
    init_rng, step_rng = jax.random.split(jax.random.key(config.seed))
    if profile_steps.stop > total_steps:
        raise UsageError(f"--profile_steps={profile_steps.start}:{profile_steps.stop}: the run has {total_steps} steps")

    with contextlib.ExitStack() as stack:
        claim = functools.partial(
            run_folder.claim, workdir, config, digest=dataset.digest, allow_change=allow_config_change
        )
        stack.enter_context(parallel.in_leader(claim) or contextlib.nullcontext())
        stack.enter_context(parallel.ended_by_others())
        signal = stack.enter_context(stopping.requested())
        parallel.in_all(functools.partial(run_folder.check_seen, workdir))
        parallel.in_leader(functools.partial(description.write, workdir, dataset))

        state, step_rng = parallel.place((jax.jit(program.init)(init_rng), step_rng))
        samples = {
            name: parallel.place(steps.Samples(*split.resident, dataset.mean, dataset.std))
            for name, split in dataset.splits.items()
        }
        means = parallel.place(parallel.in_all(functools.partial(data.means, dataset)))
        saved = checkpoints.Checkpoints(
            workdir / "checkpoints", config_lib.fingerprint(config), writes=True, keep_best=program.keep_best
        )
        step, measured = saved.step, []
        if step:
            state, measured = saved.restore(state, allow_config_change=allow_config_change), saved.metrics()
        if 0 < step < total_steps and parallel.leads():
            print(f"continuing at step {step} of {total_steps} in {workdir}", flush=True)

        watched = "validation" if "validation" in dataset.splits else "test"
        report = reporting.Report(
            workdir, config.title, program.display, step=step, total_steps=total_steps, leads=parallel.leads()
        )
        profile = profiling.Profile(workdir / "profile", profile_steps if parallel.leads() else range(0))
        stack.callback(profile.close)
        train_step = None
        for number in range(step // steps_per_epoch, config.num_epochs):
            compiled = train_step is program.train_step(number)
            train_step, epoch = program.train_step(number), reporting.Epoch(report, measured, compiled=compiled)
            order = parallel.share(data.epoch_order(len(train_split), batch_size, seed=config.seed, epoch=number))
            for batch in train_split.batches(order[step % steps_per_epoch :], epoch=number):
                if step == 0 and parallel.leads() and len(train_split.shape) == 3:
                    mine = jax.tree.map(lambda leaf: leaf[0], parallel.split(batch))
                    seen = jax.device_get(jax.jit(program.first_inputs)(samples["train"], mine, step_rng))
                    report.inputs(*seen, class_names=dataset.class_names)
                with profile.step(step, state):
                    state, metrics = train_step(state, samples["train"], parallel.split(batch), step_rng)
                step += 1
                epoch.add(step, metrics)
                if epoch.skipped_in_a_row == MOST_SKIPPED:
                    raise _diverged(f"{MOST_SKIPPED} steps in a row", number, saved, config)
                asked = step % parallel.steps_to_agree() == 0 and parallel.agreed_signal(signal())
                if step % steps_per_epoch and (asked or step % config.checkpoint_steps == 0):
                    saved.save(state, epoch.read(), means, {})
                    if asked:
                        raise _stopped(asked, step, total_steps, workdir)
            row = {
                "epoch": number + 1,
                "step": step,
                **epoch.row(batch_size),
                "learning_rate": float(program.learning_rate(step - 1)),
            }
            due = (watched,) if (number + 1) % config.eval_epochs == 0 else ()
            found: dict[str, Mapping[str, float]] = {}
            for name in dict.fromkeys((watched, "test") if step == total_steps else due):
                found[name] = measure(program, state, samples[name], dataset.splits[name], batch_size)
                row |= {f"{name}_{key}": value for key, value in found[name].items()}
            if not all(map(math.isfinite, row.values())):
                raise _diverged("what an epoch has measured", number, saved, config)
            report.epoch(row, watched=watched)
            measured, validated = [], found.get("validation", {})
            asked = parallel.agreed_signal(signal())
            due_now = step % config.checkpoint_steps == 0 or step == total_steps
            if asked or due_now or saved.improves(validated):
                saved.save(state, measured, means, validated)
            if asked and step < total_steps:
                raise _stopped(asked, step, total_steps, workdir)
        profile.close()
        report.close(watched=watched, best=(program.keep_best, saved.best))
        return state


def _diverged(what: str, epoch: int, saved: checkpoints.Checkpoints, config: Any) -> DivergedError:
    last = f"the checkpoint of step {saved.step} is kept" if saved.step else "there is no checkpoint yet"
    return DivergedError(
        f"training diverged in epoch {epoch + 1}: loss or gradient of {what} not finite; {last}: "
        f"lower optimizer.learning_rate, now {config.optimizer.learning_rate}, or look for broken samples"
    )


def _stopped(signal: int, step: int, total_steps: int, workdir: pathlib.Path) -> StoppedError:
    return StoppedError(
        f"stopped at step {step} of {total_steps}, saved: the same command goes on in {workdir}", signal
    )


def measure(
    program: Program, state: steps.TrainState, samples: steps.Samples, split: splits.Split, batch_size: int
) -> Mapping[str, float]:
    """Measures a whole split, and again with averaged parameters if there are any, under separate names."""
    found = dict(evaluate(program, state, samples, split, batch_size))
    if state.ema:
        averaged = evaluate(program, state.averaged(), samples, split, batch_size)
        found |= {f"{best.AVERAGED}{key}": value for key, value in averaged.items()}
    return found


def evaluate(
    program: Program, state: steps.TrainState, samples: steps.Samples, split: splits.Split, batch_size: int
) -> Mapping[str, float]:
    """Measures a whole split, with the same numbers for any batch size and number of devices."""
    order, weights = map(parallel.share, splits.padded_order(len(split), batch_size))
    sums = [
        jax.device_get(program.eval_step(state, samples, parallel.split(batch), parallel.split(weight)))
        for batch, weight in zip(split.batches(order, epoch=0), weights, strict=True)
    ]
    return program.measures(jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *sums))
