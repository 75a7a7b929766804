"""Checks a configuration against its data and devices, before anything is compiled."""

from collections.abc import Callable
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from train import best, objectives, optimizers
from train.config import Config, Mix, VaeConfig, known
from train.data import Dataset
from train.errors import UsageError

PAIRED = ("pairing", "probability", "shared")
# What each method takes besides method, space, vae, clean_weight and alphas, which are checked together.
TAKEN: dict[str, tuple[str, ...]] = {
    "erm": (),
    "mixup": PAIRED,
    "cutmix": PAIRED,
    "hmix": (*PAIRED, "area_ratio"),
    "gmix": PAIRED,
    "kmixup": ("probability", "shared", "k", "solver"),
    "varmixup": ("pairing", "probability", "interpolation", "real_fraction"),
    "multimix": ("num_mixed",),
    "dense_multimix": ("num_mixed", "per_position"),
    "approximate_mixup": ("curvature",),
}


def check(config: Config, dataset: Dataset, *, devices: int, vae: objectives.Codec | None = None) -> None:
    """Raises a UsageError, naming what would work, where numbers do not fit one another.

    Args:
      config: all of it.
      dataset: the loaded data.
      devices: how many share a batch.
      vae: what is mixed with, where that is configured.
    """
    mix = config.mix
    _check_mix(mix)
    check_run(config, dataset, devices=devices, k=mix.k if mix.matches else 1)
    best.check(config, dataset.splits)
    if not 0 <= mix.clean_epochs < config.num_epochs:
        raise UsageError(f"mix.clean_epochs={mix.clean_epochs}: take from 0 to {config.num_epochs - 1}, or method=erm")
    if mix.method == "dense_multimix" and config.model.name == "vit" and not mix.clean_weight:
        raise UsageError(
            "mix.method=dense_multimix hardly trains a vit's class token, which is one position of many: "
            "take mix.clean_weight=1"
        )
    shape = dataset.splits["train"].shape
    per_device = config.data.batch_size // devices // config.optimizer.accumulate
    if mix.method == "dense_multimix":
        shape = (1, dataset.num_classes)  # of logits at a position
    elif mix.space != "inputs":
        shape = (dataset.num_classes,)
    inputs = jax.ShapeDtypeStruct((per_device, *shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((per_device, dataset.num_classes), jnp.float32)
    for alpha in {mix.alpha_range or mix.alpha, mix.final_alpha or mix.alpha}:
        mixing = functools.partial(_mix, mix, alpha, vae)
        fits(mixing, inputs, labels, jax.random.key(0), what="config.mix")


def check_run(config: Config | VaeConfig, dataset: Dataset, *, devices: int, k: int = 1) -> None:
    """The part of any run; k is the size of the groups in which samples are matched."""
    if config.num_epochs < 1:
        raise UsageError(f"num_epochs must be at least 1, got {config.num_epochs}")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"seed must be from 0 to {2**32 - 1}, got {config.seed}")
    for name in ("checkpoint_steps", "eval_epochs"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(config, name)}")
    optimizers.check(config.optimizer, config.num_epochs)
    _check_batch(config.data.batch_size, len(dataset.splits["train"]), devices, k, config.optimizer.accumulate)


def _mix(config: Mix, alpha: float | tuple[float, ...], vae: objectives.Codec | None, *arguments: Any) -> Any:
    return objectives.mix_fn(config, alpha, vae)(*arguments)


def _check_mix(mix: Mix) -> None:
    """Fields that do not go together."""
    known("space", mix.space, objectives.Slots._fields)
    hull = mix.method in ("multimix", "dense_multimix")
    if mix.method == "multimix" and mix.space == "inputs":
        raise UsageError("mix.method=multimix mixes near the classifier: take mix.space=logits, or embeddings")
    if mix.method in ("dense_multimix", "approximate_mixup") and mix.space != "inputs":
        raise UsageError(f"mix.method={mix.method} has a space of its own: leave mix.space")
    if mix.vae and (mix.space != "inputs" or mix.method in ("dense_multimix", "approximate_mixup")):
        raise UsageError(f"mix.vae={mix.vae} is for methods that mix inputs, in pairs or not at all: leave it")
    if mix.alpha_range and (not hull or len(mix.alpha_range) != 2 or mix.final_alpha):
        raise UsageError(
            f"mix.alpha_range={mix.alpha_range}: give two ends, without mix.final_alpha, to multimix or dense_multimix"
        )
    known("method", mix.method, list(TAKEN))
    taken = (*TAKEN[mix.method], *(("k", "solver") if mix.pairing == "transport" else ()))
    for name in dict.fromkeys(itertools.chain(*TAKEN.values())):
        if name not in taken and getattr(mix, name) != getattr(Mix(), name):
            takers = [f"mix.method={method}" for method, names in TAKEN.items() if name in names]
            takers += ["mix.pairing=transport"] if name in ("k", "solver") else []
            raise UsageError(
                f"mix.{name}={getattr(mix, name)} is of no use to mix.method={mix.method}: leave it, "
                f"or take {' or '.join(takers)}"
            )
    if mix.method == "erm" and (mix.alpha != Mix().alpha or mix.final_alpha or mix.clean_epochs):
        raise UsageError("mix.method=erm mixes nothing: leave mix.alpha, mix.final_alpha and mix.clean_epochs")
    if mix.alpha_range and mix.alpha != Mix().alpha:
        raise UsageError(
            f"mix.alpha_range={mix.alpha_range} is in place of mix.alpha, now {mix.alpha}: give one of them"
        )
    if mix.clean_weight < 0 or (mix.clean_weight and mix.mixes_inputs):
        raise UsageError(
            f"mix.clean_weight={mix.clean_weight}: it must not be negative, and 0 where inputs are mixed, "
            "since the network then sees no clean samples"
        )


def _check_batch(batch_size: int, n: int, devices: int, k: int, accumulate: int) -> None:
    """The batch is shared evenly by devices, in equal parts, and each holds two groups of k where that is above 1."""
    parts = devices * accumulate
    grouped, unit = k > 1, parts * k
    least, most = 2 * unit if grouped else unit, n // unit * unit
    if least <= batch_size <= n and batch_size % unit == 0:
        return
    each = " in each part" if accumulate > 1 else " on each device"
    groups = f", mixed in groups of k={k}, at least two{each}" if grouped else ""
    fewer = "fewer devices"
    if accumulate > 1:
        groups, fewer = f", in optimizer.accumulate={accumulate} parts each{groups}", "fewer devices or parts"
    smaller = range(2, min(k, batch_size // parts // 2 + 1)) if grouped else ()
    advice = [f"a multiple of {unit} from {least} to {most}"] if least <= most else []
    advice += [f"k={size}" for size in smaller if batch_size <= n and batch_size % (parts * size) == 0][-1:]
    raise UsageError(
        f"data.batch_size={batch_size} does not fit {devices} devices and {n} training samples{groups}: "
        f"take {' or '.join(advice) or fewer}"
    )


def fits(function: Callable, *arguments: Any, what: str) -> Any:
    """The shapes that a function returns; a UsageError in place of what it raises."""
    try:
        return jax.eval_shape(function, *arguments)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{what}: {' '.join(str(error).split())}") from None
