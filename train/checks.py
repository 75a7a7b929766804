"""Checks a configuration against its data and devices, before anything is compiled."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from train import objectives, optimizers
from train.config import Config, Mix, UsageError
from train.data import Dataset


def check(config: Config, dataset: Dataset, *, devices: int) -> None:
    """Raises a UsageError, naming what would work, where numbers do not fit one another.

    Args:
      config: all of it.
      dataset: the loaded data.
      devices: how many share a batch.
    """
    mix = config.mix
    if config.num_epochs < 1:
        raise UsageError(f"num_epochs must be at least 1, got {config.num_epochs}")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"seed must be from 0 to {2**32 - 1}, got {config.seed}")
    if not 0 <= mix.clean_epochs < config.num_epochs:
        raise UsageError(f"mix.clean_epochs={mix.clean_epochs}: take from 0 to {config.num_epochs - 1}, or method=erm")
    if config.checkpoint_steps < 1:
        raise UsageError(f"checkpoint_steps must be at least 1, got {config.checkpoint_steps}")
    if mix.method == "approximate_mixup" and (mix.matches or mix.shared or mix.probability != 1):
        raise UsageError(
            "mix.method=approximate_mixup draws no partners: leave mix.pairing, mix.shared and mix.probability"
        )
    optimizers.check(config.optimizer, config.num_epochs)
    _check_batch(config, len(dataset.splits["train"]), devices)
    shape = dataset.splits["train"].shape
    per_device = config.data.batch_size // devices
    inputs = jax.ShapeDtypeStruct((per_device, *shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((per_device, dataset.num_classes), jnp.float32)
    for alpha in (mix.alpha, mix.final_alpha or mix.alpha):
        mixing = functools.partial(_mix, mix, alpha)
        fits(mixing, inputs, labels, jax.random.key(0), what="config.mix")


def _mix(config: Mix, alpha: float, *arguments: Any) -> Any:
    return objectives.mix_fn(config, alpha)(*arguments)


def _check_batch(config: Config, n: int, devices: int) -> None:
    """The batch is shared evenly by devices, and each share holds two groups where groups are matched."""
    batch_size = config.data.batch_size
    grouped = config.mix.matches
    unit = devices * config.mix.k if grouped else devices
    least, most = 2 * unit if grouped else unit, n // unit * unit
    if least <= batch_size <= n and batch_size % unit == 0:
        return
    groups = f", mixed in groups of k={config.mix.k}, at least two on each device" if grouped else ""
    smaller = range(2, min(config.mix.k, batch_size // devices // 2 + 1)) if grouped else ()
    advice = [f"a multiple of {unit} from {least} to {most}"] if least <= most else []
    advice += [f"k={k}" for k in smaller if batch_size <= n and batch_size % (devices * k) == 0][-1:]
    raise UsageError(
        f"data.batch_size={batch_size} does not fit {devices} devices and {n} training samples{groups}: "
        f"take {' or '.join(advice) or 'fewer devices'}"
    )


def fits(function: Callable, *arguments: Any, what: str) -> Any:
    """The shapes that a function returns; a UsageError in place of what it raises."""
    try:
        return jax.eval_shape(function, *arguments)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{what}: {' '.join(str(error).split())}") from None
