"""Whether a model's confidence is its accuracy, from sums that add up over batches and hosts."""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int


class Bins(NamedTuple):
    """Sums over the predictions whose confidence falls into each bin; add two by `jax.tree.map`.

    Attributes:
      total: number of predictions, [bins].
      confidence: sum of their confidences, [bins].
      correct: number of correct ones, [bins].
    """

    total: Float[Array, " bins"]
    confidence: Float[Array, " bins"]
    correct: Float[Array, " bins"]


def confidence_bins(
    logits: Float[Array, "n c"],
    labels: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    num_bins: int = 15,
) -> Bins:
    """Sorts predictions into bins of equal width by their confidence, the largest probability.

    Bins are closed on the right: bin b of B holds confidences in (b / B, (b + 1) / B].

    Args:
      logits: [n, classes].
      labels: integer classes, [n].
      weights: 1 for samples that count and 0 for padding, [n]; all count unless given.
      num_bins: number of bins.

    Returns:
      Sums over the samples of each bin.

    Raises:
      ValueError: if num_bins is less than 1.

    Example:
      >>> bins = calibration.confidence_bins(jnp.array([[0.0, 9.0]]), jnp.array([1]))
      >>> bins.total.argmax().item(), bins.correct.sum().item()
      (14, 1.0)

    References:
      Guo et al., `On Calibration of Modern Neural Networks
      <https://arxiv.org/abs/1706.04599>`_, 2017
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    confidence = jnp.max(probabilities, axis=-1)
    correct = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    index = jnp.clip(jnp.ceil(num_bins * confidence).astype(jnp.int32) - 1, 0, num_bins - 1)
    # A matrix product, since a segment sum into so few slots is slow on some GPUs.
    member = jax.nn.one_hot(index, num_bins, dtype=jnp.float32)
    if weights is not None:
        member = member * weights[:, None]
    summed = jnp.stack([jnp.ones_like(confidence), confidence, correct])
    return Bins(*jnp.matmul(summed, member, precision="highest"))


def expected_calibration_error(bins: Bins) -> Float[Array, ""]:
    r"""Returns the mean distance of confidence from accuracy over bins, weighted by their counts.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert

    Args:
      bins: sums over all samples, from `confidence_bins`.

    Returns:
      A float32 scalar in [0, 1]; NaN without any samples.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
      >>> bins = calibration.confidence_bins(logits, jnp.array([0, 1]))
      >>> round(float(calibration.expected_calibration_error(bins)), 4)
      0.25

    References:
      Guo et al., `On Calibration of Modern Neural Networks
      <https://arxiv.org/abs/1706.04599>`_, 2017
    """
    return jnp.sum(jnp.abs(bins.correct - bins.confidence)) / jnp.sum(bins.total)
