"""Optimisers and learning-rate schedules, composed from optax."""

import math
from typing import Any

import jax
import optax

from train import config as config_lib
from train.errors import UsageError


def schedule(config: config_lib.Optimizer, *, steps_per_epoch: int, num_epochs: int) -> optax.Schedule:
    """Returns the learning rate by step: a linear rise, then as configured."""
    total = num_epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total // 2)
    peak = config.learning_rate
    after = {
        "cosine": optax.cosine_decay_schedule(peak, total - warmup),
        "steps": optax.piecewise_constant_schedule(
            peak, {epoch * steps_per_epoch - warmup: 0.1 for epoch in config.milestones}
        ),
        "constant": optax.constant_schedule(peak),
    }
    config_lib.known("schedule", config.schedule, list(after))
    if not warmup:
        return after[config.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after[config.schedule]], [warmup])


def build(config: config_lib.Optimizer, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser by name, after clipping gradients; sgd adds weight decay to the gradient, like PyTorch."""
    mask = None if config.decay_vectors else decayed
    optimizers = {
        "adamw": lambda: optax.adamw(learning_rate, weight_decay=config.weight_decay, mask=mask),
        "sgd": lambda: optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask), optax.sgd(learning_rate, config.momentum or None)
        ),
    }
    config_lib.known("optimizer", config.name, list(optimizers))
    optimizer = optimizers[config.name]()
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer) if config.clip_norm else optimizer


def decayed(params: Any) -> Any:
    """Returns whether each parameter is a weight: of rank 2 or more, and not a bias, as in Flax' attention."""

    def is_weight(path: Any, leaf: Any) -> bool:
        return leaf.ndim > 1 and getattr(path[-1], "key", "") != "bias"

    return jax.tree.map_with_path(is_weight, params)


def check(config: config_lib.Optimizer, num_epochs: int) -> None:
    """Raises a UsageError unless the numbers make sense together."""
    if not 0 < config.learning_rate < math.inf or not 0 <= config.weight_decay < math.inf:
        raise UsageError(f"learning_rate must be > 0, weight_decay >= 0, and both finite, got {config}")
    if not 0 <= config.momentum < 1:
        raise UsageError(f"optimizer.momentum must lie in [0, 1), got {config.momentum}")
    if not 0 <= config.clip_norm < math.inf:
        raise UsageError(f"optimizer.clip_norm must be finite and at least 0, got {config.clip_norm}")
    if config.accumulate < 1:
        raise UsageError(f"optimizer.accumulate must be at least 1, got {config.accumulate}")
    if not 0 <= config.ema < 1:
        raise UsageError(f"optimizer.ema must lie in [0, 1), got {config.ema}: take 0.999, for example, or 0 for none")
    if not 0 <= config.warmup_epochs < math.inf:
        raise UsageError(f"optimizer.warmup_epochs must be finite and at least 0, got {config.warmup_epochs}")
    if bool(config.milestones) != (config.schedule == "steps"):
        raise UsageError(
            f"optimizer.milestones={config.milestones} with schedule={config.schedule}: they go with schedule=steps"
        )
    if any(not config.warmup_epochs < epoch < num_epochs for epoch in config.milestones):
        raise UsageError(
            f"optimizer.milestones={config.milestones}: take epochs between the warm-up and num_epochs={num_epochs}"
        )
