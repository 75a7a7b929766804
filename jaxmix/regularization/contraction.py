"""Contraction, which Mixup does on average, the perturbation around it, and a correction at test time."""

from collections.abc import Callable, Iterable
import functools
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
import numpy as np

from jaxmix import checks, core, dtypes, layout, masks, pairings, ratios
from jaxmix.types import Batch, Labels, Scalar


def theta_moments(alpha: Scalar) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Returns mean and variance of the larger share, which is Beta(alpha, alpha) truncated to [1/2, 1].

    .. math:: \bar\theta = \tfrac12 + \frac{\Gamma(\alpha + \frac12)}{2 \sqrt\pi\, \Gamma(\alpha + 1)}, \quad
        \sigma^2 = \frac1{4 (2 \alpha + 1)} - (\bar\theta - \tfrac12)^2

    Args:
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.

    Returns:
      The mean, from 1 (alpha -> 0) to 1/2 (alpha -> infinity), and the variance, as float32
      scalars. Both are differentiable with respect to alpha.

    Raises:
      ValueError: if a concrete alpha is not positive and finite.

    Example:
      >>> mean, variance = regularization.theta_moments(1.0)
      >>> round(float(mean), 4), round(float(variance), 4)
      (0.75, 0.0208)

    References:
      Carratino et al., `On Mixup Regularization <https://arxiv.org/abs/2006.06049>`_, 2022
    """
    checks.positive("alpha", alpha)
    alpha = jnp.asarray(alpha, jnp.float32)
    small, large = jnp.minimum(alpha, 16.0), jnp.maximum(alpha, 16.0)
    quotient = jnp.exp(jax.lax.lgamma(small + 0.5) - jax.lax.lgamma(small + 1))
    series = (1 - 1 / (8 * large) + 1 / (128 * large**2)) / jnp.sqrt(large)  # the logarithms cancel there
    excess = jnp.where(alpha < 16, quotient, series) / (2 * math.sqrt(math.pi))
    return 0.5 + excess, jnp.maximum(0.25 / (2 * alpha + 1) - excess**2, 0)


def dataset_means(batches: Iterable[tuple[Batch, Labels]]) -> tuple[Batch, Labels]:
    """Averages samples and labels in one pass, for `rescale`.

    Args:
      batches: pairs of samples [n, ...] and float labels [n, ...], or pytrees of them: the
        training data without mixing and augmentation. Batches may differ in n.

    Returns:
      The means without the leading axis, in float32 (float64 for float64 arrays).

    Raises:
      ValueError: if there are no batches, a batch is empty, or batches differ in the shape of
        samples.
      TypeError: if samples are neither float nor uint8, or labels are not float.

    Example:
      >>> mean_batch, mean_labels = regularization.dataset_means([(jnp.ones((4, 8, 8, 3)), jnp.eye(4))])
      >>> mean_batch.shape, mean_labels.tolist()
      ((8, 8, 3), [0.25, 0.25, 0.25, 0.25])
    """
    count, means = 0, None
    for batch, labels in batches:
        n, _ = checks.batch_shape(batch)
        checks.mixable("batch", batch)
        checks.targets(labels, n)
        count += n
        here = jax.tree.map(lambda leaf: jnp.mean(dtypes.widened(jnp.asarray(leaf)), axis=0), (batch, labels))
        checks.same_shapes(here, means or here, got_name="the means of a batch are", expected_name="those before were")
        means = here if means is None else jax.tree.map(functools.partial(_moved, share=n / count), means, here)
    if means is None:
        raise ValueError("there are no batches to average: pass an iterable of (batch, labels)")
    return means


def contract(batch: Batch, mean_batch: Batch, *, alpha: Scalar) -> Batch:
    r"""Contracts samples towards their mean, as Mixup does on average: :math:`\bar x + \bar\theta (x - \bar x)`.

    Args:
      batch: samples or labels [n, ...], floats or uint8 pixels, or a pytree of them.
      mean_batch: their mean over the data, [...], or a pytree of means.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.

    Returns:
      The contracted batch, shaped and typed like the input.

    Raises:
      ValueError: if alpha is not positive and finite, or the means do not have the samples' shape.
      TypeError: if a leaf is neither float nor uint8.

    Example:
      >>> contracted = regularization.contract(jnp.array([[8.0, 0.0]]), jnp.array([4.0, 4.0]), alpha=1.0)
      >>> [f"{value:.2f}" for value in contracted[0]]
      ['7.00', '1.00']
    """
    share, _ = theta_moments(alpha)

    structures = [str(jax.tree.structure(tree)) for tree in (batch, mean_batch)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"the batch is a {structures[0]}, and the means are a {structures[1]}: "
            "pass the mean of each array, as dataset_means returns them"
        )

    def towards_mean(path, leaf, mean):
        name = "batch" + jax.tree_util.keystr(path)
        checks.mixable(name, leaf)
        if np.shape(mean) != np.shape(leaf)[1:]:
            raise ValueError(
                f"the mean of {name} has shape {np.shape(mean)}, and a sample {np.shape(leaf)[1:]}: "
                "pass the mean over samples, as dataset_means returns it"
            )
        wide, mean = dtypes.widened(jnp.asarray(leaf)), jnp.asarray(mean)[None]
        mean = mean.astype(wide.dtype)
        return dtypes.narrowed(mean + share.astype(wide.dtype) * (wide - mean), jnp.result_type(leaf))

    return jax.tree_util.tree_map_with_path(towards_mean, batch, mean_batch)


def rescale(
    predict: Callable[[Batch], Float[Array, "n *r c"]],
    *,
    alpha: Scalar,
    mean_batch: Batch,
    mean_labels: Labels,
    inputs: bool = True,
    outputs: bool = True,
) -> Callable[[Batch], Float[Array, "n *r c"]]:
    r"""Corrects the predictions of a model trained with Mixup at test time.

    .. math:: x \mapsto \bar\theta x + (1 - \bar\theta) \bar x, \quad
        z \mapsto z / \bar\theta + (1 - 1 / \bar\theta)\, \bar y

    Such a model was trained on contracted inputs and contracted labels. The first map contracts
    the inputs as in training. The second undoes the contraction of the labels; with balanced
    classes it is a temperature. Both are differentiable, so gradient attacks can use them.

    Args:
      predict: samples [n, ...] -> logits [n, c], with parameters bound.
      alpha: the concentration that the model was trained with, > 0. Not checked when traced.
      mean_batch: the mean of the clean training samples, [...], as predict takes them; see
        `dataset_means`. May be None if inputs is False.
      mean_labels: the frequency of each class, [c]. May be None if outputs is False.
      inputs: whether to apply the first map, to samples.
      outputs: whether to apply the second map, to logits.

    Returns:
      A function like predict.

    Raises:
      ValueError: if alpha is not positive and finite; when called, if a mean has another shape
        than a sample or the logits.

    Example:
      >>> predict = lambda x: 2 * x
      >>> means = {"mean_batch": jnp.zeros(2), "mean_labels": jnp.array([0.5, 0.5])}
      >>> rescaled = regularization.rescale(predict, alpha=1.0, **means)
      >>> [f"{logit:.2f}" for logit in rescaled(jnp.array([[2.0, -4.0]]))[0]]
      ['3.83', '-8.17']

    References:
      Carratino et al., `On Mixup Regularization <https://arxiv.org/abs/2006.06049>`_, 2022
    """
    share, _ = theta_moments(alpha)

    def rescaled(batch: Batch) -> Array:
        logits = predict(contract(batch, mean_batch, alpha=alpha) if inputs else batch)
        if not outputs:
            return logits
        if np.shape(mean_labels) != logits.shape[-1:]:
            raise ValueError(
                f"mean_labels have shape {np.shape(mean_labels)}, and there are {logits.shape[-1]} logits: "
                "pass the frequency of each class, as dataset_means returns it"
            )
        offset = (1 - 1 / share) * jnp.asarray(mean_labels, jnp.float32)
        stretched = logits.astype(jnp.float32) / share + jnp.expand_dims(offset, range(logits.ndim - 1))
        return stretched.astype(logits.dtype)

    return rescaled


def perturbed_erm(batch: Batch, labels: Labels, rng: PRNGKeyArray, *, alpha: Scalar = 1.0) -> tuple[Batch, Labels]:
    """Contracts a batch towards its mean and perturbs it: Mixup, written as ERM on other data.

    The larger share is always the sample's own. Apart from that, a batch has the same
    distribution as under `jaxmix.mixup`, where sample and partner may be swapped.

    Args:
      batch: samples [n, ...], floats or uint8 pixels, or a pytree of arrays with one row per
        sample.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.

    Returns:
      The perturbed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, or shapes do not match.
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> regularization.perturbed_erm(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Carratino et al., `On Mixup Regularization <https://arxiv.org/abs/2006.06049>`_, 2022
    """
    drawn = core.draw(
        batch,
        rng,
        pairing=pairings.permutation,
        ratio=functools.partial(_larger_share, alpha=alpha),
        mask=masks.uniform,
    )
    checks.targets(labels, len(drawn.partner))
    expected, _ = theta_moments(alpha)

    def perturbed(leaf):
        wide = dtypes.widened(leaf)
        theta = jnp.expand_dims(drawn.weight, range(1, leaf.ndim)).astype(wide.dtype)
        mean, expectation = jnp.mean(wide, axis=0, keepdims=True), expected.astype(wide.dtype)
        centred = wide - mean
        contracted = mean + expectation * centred
        perturbation = (theta - expectation) * centred + (1 - theta) * layout.rows(centred, drawn.partner)
        return dtypes.narrowed(contracted + perturbation, leaf.dtype)

    return jax.tree.map(lambda leaf: perturbed(jnp.asarray(leaf)), (batch, labels))


def _larger_share(n: int, rng: PRNGKeyArray, *, alpha: Scalar) -> Float[Array, " n"]:
    ratio = ratios.beta(n, rng, alpha=alpha)
    return jnp.maximum(ratio, 1 - ratio)


def _moved(mean: Array, towards: Array, *, share: float) -> Array:
    return mean + share * (towards - mean)
