"""Proper scores and calibration errors, which compare a model's confidence with its accuracy.

Functions take logits [n, classes] and integer labels [n], and compute in float32. Labels are classes counted from 0.
This is not checked, so leave out samples without a label, such as those marked -1. Scores and `Bins` add up over
batches and hosts. Only `adaptive_calibration_error` and `fit_temperature` need all samples at once.
"""

import math
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np


class Bins(NamedTuple):
    """Sums over the predictions in each bin of confidence. Add two `Bins` with `jax.tree.map`.

    Attributes:
      total: number of predictions, [bins], or [classes, bins] from `classwise_bins`.
      confidence: sum of the predictions' confidences, with the shape of total.
      correct: number of correct predictions, with the shape of total.
    """

    total: Float[Array, "*classes bins"]
    confidence: Float[Array, "*classes bins"]
    correct: Float[Array, "*classes bins"]


def negative_log_likelihood(logits: Float[Array, "n c"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """Returns the negative log-probability of each sample's class, in nats.

    Args:
      logits: floats [n, classes].
      labels: integer classes, [n].

    Returns:
      One score for each sample, [n]; lower is better.

    Example:
      >>> nll = calibration.negative_log_likelihood(jnp.zeros((1, 2)), jnp.array([1]))
      >>> round(nll.item(), 4)
      0.6931
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def brier_score(logits: Float[Array, "n c"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    r"""Returns the squared distance between each sample's probabilities and its one-hot class.

    .. math:: \sum_k (p_k - [y = k])^2

    Args:
      logits: floats [n, classes].
      labels: integer classes, [n].

    Returns:
      One score in [0, 2] for each sample, [n]; lower is better.

    Example:
      >>> calibration.brier_score(jnp.zeros((1, 2)), jnp.array([1])).item()
      0.5

    References:
      Brier, `Verification of Forecasts Expressed in Terms of Probability
      <https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2>`_, 1950
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
    return jnp.sum((probabilities - truth) ** 2, axis=-1)


def confidence_bins(
    logits: Float[Array, "n c"],
    labels: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    num_bins: int = 15,
) -> Bins:
    """Sorts predictions into bins of equal width by their confidence, which is the largest probability.

    Bins are closed on the right: bin b of B contains confidences in (b / B, (b + 1) / B].

    Args:
      logits: floats [n, classes].
      labels: integer classes, [n].
      weights: 1 for samples and 0 for padding, [n]; by default all samples count.
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
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    correct = jnp.argmax(logits, axis=-1) == labels
    return _sort(jnp.max(probabilities, axis=-1), correct, weights, num_bins)


def classwise_bins(
    logits: Float[Array, "n c"],
    labels: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    num_bins: int = 15,
) -> Bins:
    """Sorts the probabilities of every class into bins of equal width, each class against the rest.

    Args:
      logits: floats [n, classes].
      labels: integer classes, [n].
      weights: 1 for samples and 0 for padding, [n]; by default all samples count.
      num_bins: number of bins, closed on the right.

    Returns:
      Sums over the samples of each bin, [classes, bins]. A class's probability counts as correct
      if it is the sample's class.

    Raises:
      ValueError: if num_bins is less than 1.

    Example:
      >>> calibration.classwise_bins(jnp.zeros((1, 2)), jnp.array([1])).correct.sum(axis=1).tolist()
      [0.0, 1.0]

    References:
      Nixon et al., `Measuring Calibration in Deep Learning
      <https://arxiv.org/abs/1904.01685>`_, 2019
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    truth = labels[:, None] == jnp.arange(logits.shape[-1])[None]
    return jax.vmap(lambda p, t: _sort(p, t, weights, num_bins), in_axes=1)(probabilities, truth)


def _sort(confidence: Array, correct: Array, weights: Array | None, num_bins: int) -> Bins:
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    index = jnp.clip(jnp.ceil(num_bins * confidence).astype(jnp.int32) - 1, 0, num_bins - 1)
    # A matrix product, since a segment sum into so few slots is slow on some GPUs.
    member = jax.nn.one_hot(index, num_bins, dtype=jnp.float32)
    if weights is not None:
        member = member * weights[:, None]
    summed = jnp.stack([jnp.ones_like(confidence), confidence, correct.astype(jnp.float32)])
    return Bins(*jnp.matmul(summed, member, precision="highest"))


def expected_calibration_error(bins: Bins) -> Float[Array, ""]:
    r"""Returns the mean distance between confidence and accuracy over bins, weighted by their counts.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert

    Args:
      bins: sums over all samples, from `confidence_bins`.

    Returns:
      A float32 scalar in [0, 1]; NaN if there are no samples.

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


def maximum_calibration_error(bins: Bins) -> Float[Array, ""]:
    """Returns the largest distance between confidence and accuracy over bins that contain samples.

    Args:
      bins: sums over all samples, from `confidence_bins`.

    Returns:
      A float32 scalar in [0, 1]; NaN if there are no samples.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
      >>> bins = calibration.confidence_bins(logits, jnp.array([0, 1]))
      >>> round(float(calibration.maximum_calibration_error(bins)), 4)
      0.25

    References:
      Guo et al., `On Calibration of Modern Neural Networks
      <https://arxiv.org/abs/1706.04599>`_, 2017
    """
    gaps = jnp.abs(bins.correct - bins.confidence) / jnp.maximum(bins.total, 1)
    return jnp.where(jnp.sum(bins.total) > 0, jnp.max(gaps), jnp.nan)


def signed_calibration_error(bins: Bins) -> Float[Array, ""]:
    """Returns mean confidence minus accuracy, which is positive for an overconfident model.

    Args:
      bins: sums over all samples, from `confidence_bins`.

    Returns:
      A float32 scalar in [-1, 1]; NaN if there are no samples.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
      >>> bins = calibration.confidence_bins(logits, jnp.array([0, 1]))
      >>> round(float(calibration.signed_calibration_error(bins)), 4)
      0.25
    """
    return jnp.sum(bins.confidence - bins.correct) / jnp.sum(bins.total)


def classwise_calibration_error(bins: Bins) -> Float[Array, ""]:
    """Returns the expected calibration error of each class against the rest, averaged over classes.

    Args:
      bins: sums over all samples, from `classwise_bins`.

    Returns:
      A float32 scalar in [0, 1]; NaN if there are no samples.

    Example:
      >>> bins = calibration.classwise_bins(jnp.zeros((1, 2)), jnp.array([1]))
      >>> calibration.classwise_calibration_error(bins).item()
      0.5

    References:
      Nixon et al., `Measuring Calibration in Deep Learning
      <https://arxiv.org/abs/1904.01685>`_, 2019
    """
    return jnp.mean(jax.vmap(expected_calibration_error)(bins))


def adaptive_calibration_error(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], *, num_bins: int = 15
) -> Float[Array, ""]:
    """Returns the expected calibration error over bins with equal numbers of samples, up to one.

    Samples with equal confidence share a bin, so their order does not matter.

    Args:
      logits: floats [n, classes], for all samples: this measure does not add up over batches.
      labels: integer classes, [n].
      num_bins: number of bins.

    Returns:
      A float32 scalar in [0, 1].

    Raises:
      ValueError: if num_bins is less than 1, or there are no samples.

    Example:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
      >>> error = calibration.adaptive_calibration_error(logits, jnp.array([0, 1]))
      >>> round(float(error), 4)
      0.25

    References:
      Nguyen and O'Connor, `Posterior Calibration and Exploratory Analysis for Natural Language
      Processing Models <https://arxiv.org/abs/1508.05154>`_, 2015
    """
    n = len(labels)
    if num_bins < 1 or not n:
        raise ValueError(f"num_bins and n must be at least 1, got num_bins={num_bins} and n={n}")
    confidence = jnp.max(jax.nn.softmax(logits.astype(jnp.float32)), axis=-1)
    gap = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32) - confidence
    ends = np.cumsum([len(part) for part in np.array_split(np.arange(n), num_bins)])[:-1] - 1
    edges = jnp.sort(confidence)[np.maximum(ends, 0)]
    member = jax.nn.one_hot(jnp.searchsorted(edges, confidence), num_bins, dtype=jnp.float32)
    return jnp.sum(jnp.abs(jnp.matmul(gap, member, precision="highest"))) / n


def fit_temperature(logits: Float[Array, "n c"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Returns the temperature T for which logits / T have the lowest mean negative log-likelihood.

    Fit it on held-out data. The likelihood is concave in 1 / T, so bisection finds the optimum.

    Args:
      logits: floats [n, classes], for all held-out samples.
      labels: integer classes, [n].

    Returns:
      A float32 scalar from 0.01 to 100, or NaN if no temperature in this range is optimal. That
      happens if all samples are correct (the lower the temperature, the better), if logits are no
      better than chance (the higher, the better), if there is a single class, or if logits are not
      finite. Logits of -inf are allowed for classes other than the sample's.

    Example:
      >>> logits = 3 * jnp.log(jnp.array([[0.75, 0.25]] * 4))
      >>> temperature = calibration.fit_temperature(logits, jnp.array([0, 0, 0, 1]))
      >>> round(float(temperature), 3)
      3.0

    References:
      Guo et al., `On Calibration of Modern Neural Networks
      <https://arxiv.org/abs/1706.04599>`_, 2017
    """
    logits = logits.astype(jnp.float32)
    above = jnp.take_along_axis(logits, labels[:, None], axis=-1) - logits  # so that no rounding makes a sign

    def slope(log_temperature):
        """Returns the derivative of the mean log-likelihood by 1 / T, which is positive if T is too high."""
        probabilities = jax.nn.softmax(logits * jnp.exp(-log_temperature))
        return jnp.mean(jnp.sum(jnp.where(probabilities > 0, probabilities * above, 0), axis=-1))  # a logit may be -inf

    def halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        too_high = slope(middle) >= 0
        return jnp.where(too_high, low, middle), jnp.where(too_high, middle, high)

    ends = tuple(jnp.full_like(above[0, 0], math.log(end)) for end in (0.01, 100))
    low, high = jax.lax.fori_loop(0, 30, halve, ends)
    determined = (slope(ends[0]) < 0) & (slope(ends[1]) > 0)
    return jnp.where(determined, jnp.exp((low + high) / 2), jnp.nan)
