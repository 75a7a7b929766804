"""One step of training and of evaluation: pure, per device; axis_name is the only trace of parallelism."""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import optax

from jaxmix.evaluation import calibration
from train.objectives import Objective


class TrainState(NamedTuple):
    """Everything that a run changes; randomness is a function of step."""

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any


class Samples(NamedTuple):
    """A split on the device, with what normalises it."""

    images: Array | np.ndarray
    labels: Array | np.ndarray
    mean: Array | np.ndarray
    std: Array | np.ndarray

    def take(self, indices: Array) -> tuple[Array, Array]:
        """Normalised images and integer labels."""
        pixels = self.images[indices].astype(jnp.float32) / 255
        return (pixels - self.mean[None, None, None]) / self.std[None, None, None], self.labels[indices]


class Sums(NamedTuple):
    """What evaluation adds up over batches, devices and hosts."""

    total: Array
    correct: Array
    nll: Array
    bins: calibration.Bins


def init(model: nn.Module, optimizer: optax.GradientTransformation, sample: Array, rng: Array) -> TrainState:
    """The state before the first step."""
    variables = model.init(rng, sample)
    params = variables["params"]
    return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))


def train_step(
    state: TrainState,
    data: Samples,
    indices: Array,
    rng: Array,
    *,
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    num_classes: int,
    axis_name: str,
) -> tuple[TrainState, dict[str, Array]]:
    """Takes one step on this device's share of the batch, and averages over devices.

    Args:
      state: the same on every device; so is the state returned.
      data: the training split.
      indices: this device's samples, [n].
      rng: the run's key, to which step and device are folded in.
      model: features, pool and classify.
      objective: what is minimised.
      optimizer: how.
      num_classes: length of the one-hot labels.
      axis_name: the devices' axis.

    Returns:
      The new state, and metrics averaged over devices.
    """
    rng = jax.random.fold_in(jax.random.fold_in(rng, state.step), jax.lax.axis_index(axis_name))
    batch, labels = data.take(indices)
    labels = jax.nn.one_hot(labels, num_classes)

    def loss(params):
        bound = nn.apply(objective, model, mutable="batch_stats")
        (value, metrics), updates = bound({"params": params, "batch_stats": state.batch_stats}, batch, labels, rng)
        return value, (metrics, updates.get("batch_stats", {}))

    gradient, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    gradient, metrics, batch_stats = jax.lax.pmean((gradient, metrics, batch_stats), axis_name)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state), metrics


def eval_step(
    state: TrainState, data: Samples, indices: Array, weights: Array, *, model: nn.Module, axis_name: str
) -> Sums:
    """Evaluates this device's share of a batch, and adds up over devices.

    Args:
      state: the same on every device.
      data: the test split.
      indices: this device's samples, [n].
      weights: 1 for samples that count and 0 for padding, [n].
      model: the model whose parameters the state holds.
      axis_name: the devices' axis.

    Returns:
      Sums over all devices' samples.
    """
    images, labels = data.take(indices)
    outputs = model.apply({"params": state.params, "batch_stats": state.batch_stats}, images)
    logits = jnp.asarray(outputs, jnp.float32)
    correct = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    sums = Sums(
        total=jnp.sum(weights),
        correct=jnp.sum(weights * correct),
        nll=jnp.sum(weights * nll),
        bins=calibration.confidence_bins(logits, labels, weights),
    )
    return jax.lax.psum(sums, axis_name)
