"""Out-of-distribution detection: scores of samples, and how well they separate two sets.

A higher score means that a sample looks more like the training data.
"""

from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from jaxmix import checks
from jaxmix.types import Scalar


class Detection(NamedTuple):
    """How well scores separate in-distribution from out-of-distribution samples, as float32 scalars in [0, 1].

    Attributes:
      auroc: probability that an in-distribution sample scores above an out-of-distribution one; ties count half.
      aupr_in: average precision at detecting in-distribution samples by high scores.
      aupr_out: average precision at detecting out-of-distribution samples by low scores.
      fpr95: share of out-of-distribution samples at or above the highest threshold that keeps at least 95 % of the
        in-distribution samples; lower is better.
      accuracy: mean over both kinds of the share detected correctly, at the best threshold.
    """

    auroc: Float[Array, ""]
    aupr_in: Float[Array, ""]
    aupr_out: Float[Array, ""]
    fpr95: Float[Array, ""]
    accuracy: Float[Array, ""]


def max_probability(logits: Float[Array, "n c"]) -> Float[Array, " n"]:
    """Scores samples by the probability of the likeliest class.

    Confident predictions tie: if a logit leads by about 17 or more, the probability is 1 in float32. `max_logit` and
    `energy` still separate such samples.

    Args:
      logits: floats [n, classes].

    Returns:
      Scores in float32, [n].

    Example:
      >>> round(ood.max_probability(jnp.log(jnp.array([[0.25, 0.75]]))).item(), 3)
      0.75

    References:
      Hendrycks and Gimpel, `A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
      Networks <https://arxiv.org/abs/1610.02136>`_, 2016
    """
    return jnp.max(jax.nn.softmax(logits.astype(jnp.float32)), axis=-1)


def max_logit(logits: Float[Array, "n c"]) -> Float[Array, " n"]:
    """Scores samples by the largest logit.

    Args:
      logits: floats [n, classes].

    Returns:
      Scores in float32, [n].

    Example:
      >>> ood.max_logit(jnp.array([[1.0, 3.0]])).item()
      3.0

    References:
      Hendrycks et al., `Scaling Out-of-Distribution Detection for Real-World Settings
      <https://arxiv.org/abs/1911.11132>`_, 2019
    """
    return jnp.max(logits.astype(jnp.float32), axis=-1)


def energy(logits: Float[Array, "n c"], *, temperature: Scalar = 1.0) -> Float[Array, " n"]:
    r"""Scores samples by the negative free energy.

    .. math:: T \log \sum_k e^{z_k / T}

    Args:
      logits: floats [n, classes].
      temperature: T, > 0. As T goes to 0, the score becomes the largest logit.

    Returns:
      Scores in float32, [n].

    Raises:
      ValueError: if a concrete temperature is not positive and finite.

    Example:
      >>> round(jnp.exp(ood.energy(jnp.log(jnp.array([[2.0, 3.0]])))).item(), 3)
      5.0

    References:
      Liu et al., `Energy-based Out-of-distribution Detection
      <https://arxiv.org/abs/2010.03759>`_, 2020
    """
    checks.positive("temperature", temperature)
    temperature = jnp.asarray(temperature, jnp.float32)
    return temperature * jax.nn.logsumexp(logits.astype(jnp.float32) / temperature, axis=-1)


def detection(inside: Float[Array, " n"], outside: Float[Array, " m"]) -> Detection:
    """Measures how well scores separate in-distribution from out-of-distribution samples.

    A threshold keeps scores that are equal or higher, so it never separates equal scores.

    Args:
      inside: scores of in-distribution samples, [n].
      outside: scores of out-of-distribution samples, [m].

    Returns:
      The measures, float32 scalars; all NaN if any score is NaN.

    Raises:
      ValueError: if inside or outside is empty.

    Example:
      >>> measures = ood.detection(jnp.array([0.9, 0.8, 0.7]), jnp.array([0.8, 0.1]))
      >>> [round(measure.item(), 3) for measure in measures]
      [0.75, 0.806, 0.75, 0.5, 0.75]

    References:
      Hendrycks and Gimpel, `A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
      Networks <https://arxiv.org/abs/1610.02136>`_, 2016
    """
    n, m = inside.size, outside.size
    if n == 0 or m == 0:
        raise ValueError(f"got {n} scores inside and {m} outside: at least one of each is needed")
    inside, outside = jnp.sort(inside.astype(jnp.float32)), jnp.sort(outside.astype(jnp.float32))

    true_positives = _num_at_least(inside, inside)  # at the threshold of every sample inside
    false_positives = _num_at_least(outside, inside)
    true_negatives = _num_at_most(outside, outside)  # at that of every sample outside
    false_negatives = _num_at_most(inside, outside)
    sensitivity, fall_out = true_positives / n, false_positives / m
    below = (m - false_positives + _num_at_most(outside, inside)) / (2 * m)
    num_kept = -(-19 * n // 20)  # 95 % of n, rounded up
    measures = Detection(
        auroc=jnp.mean(below),
        aupr_in=jnp.mean(true_positives / (true_positives + false_positives)),
        aupr_out=jnp.mean(true_negatives / (true_negatives + false_negatives)),
        fpr95=fall_out[n - num_kept],
        accuracy=jnp.max(sensitivity + (1 - fall_out)) / 2,  # between two scores inside, no threshold is better
    )
    undefined = jnp.isnan(inside[-1]) | jnp.isnan(outside[-1])  # sorting puts NaN last
    return jax.tree.map(lambda measure: jnp.where(undefined, jnp.nan, measure), measures)


def _num_at_least(ordered: Array, thresholds: Array) -> Array:
    return (ordered.size - jnp.searchsorted(ordered, thresholds, side="left")).astype(jnp.float32)


def _num_at_most(ordered: Array, thresholds: Array) -> Array:
    return jnp.searchsorted(ordered, thresholds, side="right").astype(jnp.float32)
