"""The exponential moving average of a run's parameters."""

import math
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax


class Average(NamedTuple):
    """The moving average of the parameters and batch statistics over the steps that changed them.

    Attributes:
      steps: number of these steps.
      params: averaged parameters; zeros before the first step.
      batch_stats: averaged batch statistics; zeros before the first step.
    """

    steps: Array
    params: Any
    batch_stats: Any


def init(params: Any, batch_stats: Any) -> Average:
    """Returns the average over no steps."""
    return Average(jnp.zeros((), jnp.int32), *jax.tree.map(jnp.zeros_like, (params, batch_stats)))


def update(average: Average, params: Any, batch_stats: Any, *, decay: float) -> Average:
    """Updates the average by the result of a step.

    The weights are those of a plain moving average, decay^0, decay^1, ... back from the newest step, but they sum to 1
    over the steps so far. So the initial parameters have no weight, however short the run.
    """
    steps = average.steps + 1
    log_decay = math.log(decay)
    share = math.expm1(log_decay) / jnp.expm1(log_decay * steps.astype(jnp.float32))  # (1 - decay) / (1 - decay^steps)
    return Average(
        steps,
        *optax.incremental_update((params, batch_stats), (average.params, average.batch_stats), share),
    )


def warning(decay: float, *, steps: int) -> str:
    """Returns a warning if a run is too short for its average to forget the first steps, else an empty string."""
    if steps < 2 or not 0 < steps * (1 - decay) < 1:
        return ""
    half = decay ** (steps / 2)
    lower = 1 - float(f"{min(0.5, 10 / steps):.0e}")
    return (
        f"optimizer.ema={decay}: the first half of {steps} steps has {half / (1 + half):.0%} of the average: "
        f"take a lower decay, such as {lower:g}"
    )
