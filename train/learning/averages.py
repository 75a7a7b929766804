"""The exponential moving average of a run's parameters."""

import math
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax


class Average(NamedTuple):
    """The average of the parameters after each step that changed them, and of the batch statistics that go with them.

    Attributes:
      steps: how many it is over.
      params: averaged; zeros before the first step.
      batch_stats: likewise.
    """

    steps: Array
    params: Any
    batch_stats: Any


def init(params: Any, batch_stats: Any) -> Average:
    """The average over no step."""
    return Average(jnp.zeros((), jnp.int32), *jax.tree.map(jnp.zeros_like, (params, batch_stats)))


def update(average: Average, params: Any, batch_stats: Any, *, decay: float) -> Average:
    """Takes in what a step has made.

    The weights are those of a plain moving average, decay^0, decay^1, ... back from the newest, but they sum to 1
    over the steps that were taken: what the parameters were initialised to has none, however short the run.
    """
    steps = average.steps + 1
    log_decay = math.log(decay)
    share = math.expm1(log_decay) / jnp.expm1(log_decay * steps.astype(jnp.float32))  # (1 - decay) / (1 - decay^steps)
    return Average(
        steps,
        *optax.incremental_update((params, batch_stats), (average.params, average.batch_stats), share),
    )


def warning(decay: float, *, steps: int) -> str:
    """A line where a run is too short for its average to leave the first steps behind; empty elsewhere."""
    if steps < 2 or not 0 < steps * (1 - decay) < 1:
        return ""
    half = decay ** (steps / 2)
    lower = 1 - float(f"{min(0.5, 10 / steps):.0e}")
    return (
        f"optimizer.ema={decay}: the first half of {steps} steps has {half / (1 + half):.0%} of the average: "
        f"take a lower decay, such as {lower:g}"
    )
