"""Pure steps of training and evaluation on one device; axis_name is their only reference to other devices."""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import optax

from jaxmix import MixFn, layout
from jaxmix.evaluation import calibration
from train.data.augmentation import Augment
from train.data.splits import Batch
from train.learning import accumulation, averages
from train.learning.mixing import StepObjective

DROPOUT = 2**30  # folded into a device's key of a step: far from what objectives split it into


class TrainState(NamedTuple):
    """Everything that a run changes; randomness depends on step only.

    ema is a train.learning.averages.Average if the run keeps one, else empty, as in older checkpoints.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = ()

    def averaged(self) -> "TrainState":
        """The same with averaged parameters and batch statistics in place of the last ones."""
        return self._replace(params=self.ema.params, batch_stats=self.ema.batch_stats)


def pixels(inputs: Array) -> Array:
    """uint8 images in [0, 1], or rows as they are, in float32."""
    return inputs.astype(jnp.float32) / (255 if inputs.dtype == jnp.uint8 else 1)


class Samples(NamedTuple):
    """A split on the device, with what normalises it; no inputs and labels where they come with each batch."""

    inputs: Array | np.ndarray | None
    labels: Array | np.ndarray | None
    mean: Array | np.ndarray
    std: Array | np.ndarray

    def take(self, batch: Batch) -> tuple[Array, Array]:
        """Images in [0, 1], or rows as they are, and integer labels."""
        if self.inputs is None or self.labels is None:
            inputs, labels = jnp.asarray(batch.inputs), jnp.asarray(batch.labels)
        else:
            indices = jnp.asarray(batch.indices)
            inputs, labels = layout.rows(jnp.asarray(self.inputs), indices), self.labels[indices]
        return pixels(inputs), labels

    def normalise(self, inputs: Array) -> Array:
        """Mean 0 and standard deviation 1 in each channel."""
        return (inputs - self.mean) / self.std


class Sums(NamedTuple):
    """What evaluation adds up over batches, devices and hosts."""

    total: Array
    correct: Array
    nll: Array
    bins: calibration.Bins


def init(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    rng: Array,
    *sample: Array,
    ema: float = 0.0,
    **options: Any,
) -> TrainState:
    """The state before the first step, of a model that is called with such a sample and options; ema=0: no average."""
    variables = model.init(rng, *sample, **options)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    average = averages.init(params, batch_stats) if ema else ()
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)


def train_step(
    state: TrainState,
    samples: Samples,
    batch: Batch,
    rng: Array,
    *,
    model: nn.Module,
    augment: Augment,
    objective: StepObjective,
    optimizer: optax.GradientTransformation,
    num_classes: int,
    axis_name: str,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    ema: float = 0.0,
) -> tuple[TrainState, dict[str, Array]]:
    """Takes one step on this device's share of the batch, and averages over devices.

    A step is one update of the parameters, however many parts its batch is computed in. Each part is mixed and
    normalised by itself; batch statistics are handed from part to part.

    Where the loss or its gradient is not finite, nothing of the state changes but its step.

    Args:
      state: the same on every device; so is the state returned.
      samples: the training split.
      batch: this device's n samples.
      rng: the run's key.
      model: features, pool and classify.
      augment: augmentation of each image.
      objective: the objective to minimise.
      optimizer: the optimiser.
      num_classes: length of the one-hot labels.
      axis_name: the devices' axis.
      label_smoothing: share of each label that goes to all classes equally.
      accumulate: parts of the n samples, whose gradients are averaged.
      ema: decay of the average that the state holds; 0 where it holds none.

    Returns:
      The new state, and metrics averaged over devices; "skipped" is 1 for a step that changed nothing, else 0.
    """
    mix_rng, augment_rng = step_keys(rng, state.step, jax.lax.axis_index(axis_name))

    def gradient_of(batch_stats, part, rng):
        inputs, labels = inputs_of(samples, part, augment_rng, augment=augment, num_classes=num_classes)
        labels = optax.smooth_labels(labels, label_smoothing)
        rngs = {"dropout": jax.random.fold_in(rng, DROPOUT)}

        def loss(params):
            bound = nn.apply(objective, model, mutable=("batch_stats", "intermediates"))  # the latter for its attention
            variables = {"params": params, "batch_stats": batch_stats}
            (value, metrics), updates = bound(variables, inputs, labels, rng, state.step, rngs=rngs)
            return value, (metrics, updates.get("batch_stats", {}))

        (value, (metrics, after)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        return (value, gradient, metrics), after

    computed = accumulation.mean(gradient_of, state.batch_stats, batch, mix_rng, count=accumulate)
    (value, gradient, metrics), batch_stats = jax.lax.pmean(computed, axis_name)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = averages.update(state.ema, params, batch_stats, decay=ema) if ema else ()
    new = TrainState(state.step, params, batch_stats, opt_state, average)
    finite = jnp.isfinite(value + optax.tree.norm(gradient))
    kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
    return kept._replace(step=state.step + 1), metrics | {"skipped": 1.0 - finite}


def step_keys(rng: Array, step: Array | int, device: Array | int) -> tuple[Array, Array]:
    """A key to mix with, another one on each device, and one to augment with, the same on all."""
    mix_rng, augment_rng = jax.random.split(jax.random.fold_in(rng, step))
    return jax.random.fold_in(mix_rng, device), augment_rng


def inputs_of(samples: Samples, batch: Batch, rng: Array, *, augment: Augment, num_classes: int) -> tuple[Array, Array]:
    """Augmented and normalised inputs and one-hot labels; a sample's key does not depend on its device."""
    inputs, labels = samples.take(batch)
    inputs = augment(inputs, jax.vmap(jax.random.fold_in, (None, 0))(rng, batch.indices))
    return samples.normalise(inputs), jax.nn.one_hot(labels, num_classes)


def first_inputs(
    samples: Samples,
    batch: Batch,
    rng: Array,
    *,
    augment: Augment,
    mix: MixFn,
    num_classes: int,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
) -> tuple[Array, Array]:
    """What the network sees of device 0's (first) part of the first batch, before normalisation: inputs and labels."""
    mix_rng, augment_rng = step_keys(rng, 0, 0)
    if accumulate > 1:
        batch, mix_rng = jax.tree.map(lambda leaf: leaf[0], accumulation.split(batch, mix_rng, accumulate))
    inputs, labels = inputs_of(samples, batch, augment_rng, augment=augment, num_classes=num_classes)
    labels = optax.smooth_labels(labels, label_smoothing)
    inputs, labels = mix(inputs, labels, jax.random.split(mix_rng, 3)[0])
    return inputs * samples.std + samples.mean, labels


def eval_step(
    state: TrainState, samples: Samples, batch: Batch, weights: Array, *, model: nn.Module, axis_name: str
) -> Sums:
    """Evaluates this device's share of a batch, and adds up over devices.

    Args:
      state: the same on every device.
      samples: the split that is measured.
      batch: this device's n samples.
      weights: 1 for samples that count and 0 for padding, [n].
      model: the model whose parameters the state holds.
      axis_name: the devices' axis.

    Returns:
      Sums over all devices' samples.
    """
    inputs, labels = samples.take(batch)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = jnp.asarray(model.apply(variables, samples.normalise(inputs), train=False), jnp.float32)
    correct = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    sums = Sums(
        total=jnp.sum(weights),
        correct=jnp.sum(weights * correct),
        nll=jnp.sum(weights * nll),
        bins=calibration.confidence_bins(logits, labels, weights),
    )
    return jax.lax.psum(sums, axis_name)
