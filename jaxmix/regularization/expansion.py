"""The second-order expansion of Mixup's loss in its perturbations, term by term."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.regularization.contraction import contract, theta_moments
from jaxmix.types import Batch, Scalar


class Terms(NamedTuple):
    """The terms of the second-order loss, which is their sum.

    Attributes:
      data: the loss at contracted inputs with the original labels.
      label_smoothing: the change of that loss when labels are contracted, too.
      jacobian: half the outputs' variance under perturbed inputs, in the metric of the loss.
      curvature: half the loss's gradient times the outputs' second derivatives.
      alignment: minus the covariance of perturbed labels and outputs.
      label_variance: half the variance of perturbed labels; 0 for cross-entropy.
    """

    data: Float[Array, ""]
    label_smoothing: Float[Array, ""]
    jacobian: Float[Array, ""]
    curvature: Float[Array, ""]
    alignment: Float[Array, ""]
    label_variance: Float[Array, ""]


def approximate_mixup_loss(
    batch: Batch,
    labels: Float[Array, "n c"],
    rng: PRNGKeyArray,
    *,
    predict: Callable[[Batch], Float[Array, "n c"]],
    alpha: Scalar = 1.0,
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy",
    num_partners: int = 1,
    curvature: bool = True,
) -> tuple[Float[Array, ""], Terms]:
    r"""Returns Mixup's expected loss on a batch, to second order in the perturbations.

    .. math:: \frac1n \sum_i \ell(\tilde y_i, f(\tilde x_i))
        + \tfrac12 \langle \nabla^2 \ell, J S_{xx} J^\top \rangle
        + \tfrac12 \sum_k \nabla_k \ell\, \mathrm{tr}(S_{xx} \nabla^2 f_k) - \mathrm{tr}(S_{yx}^\top J)

    Samples and labels are contracted, and the S are covariances of the perturbations, such as
    :math:`S_{xx}^i = \sigma^2 v_i v_i^\top + \gamma^2 \mathrm{Cov}(x)` with :math:`v_i = x_i - \bar x`
    and :math:`\gamma^2 = \sigma^2 + (1 - \bar\theta)^2`. The code does not form them. Jacobian-vector
    products along :math:`\pm \sigma v_i \pm \gamma v_j`, with random signs and a random partner j,
    give unbiased estimates of the terms. If predict couples samples, as batch normalisation does,
    the bias is at most of order 1/n.

    Unlike Mixup's own loss, this loss has no lower bound. A network that is confident and grows
    steep along partners can lower the alignment term without end. The larger alpha and the
    learning rate, the sooner this happens. Watch the terms.

    Args:
      batch: float samples [n, ...], or a pytree of them.
      labels: float targets [n, c]; for cross-entropy they must sum to 1.
      rng: a JAX key.
      predict: samples -> logits [n, c], or outputs for squared_error, with parameters bound.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      loss: "cross_entropy" of the softmax, or "squared_error", half the squared distance.
      num_partners: number of partners drawn per sample, without replacement. With n partners the
        result is exact if predict does not couple samples.
      curvature: whether to add the curvature term. It needs second derivatives, and is 0 for a
        network that is linear almost everywhere.

    Returns:
      The loss, and its terms, as float32 scalars.

    Raises:
      ValueError: if alpha is not positive and finite, num_partners is not from 1 to n, the loss
        is unknown, or shapes do not match.
      TypeError: if batch or labels are not float.

    Example:
      >>> x, y = jnp.array([[1.0], [-1.0]]), jnp.eye(2)
      >>> predict = lambda x: x * jnp.array([[1.0, -1.0]])
      >>> value, terms = regularization.approximate_mixup_loss(x, y, jax.random.key(0), predict=predict)
      >>> bool(jnp.isclose(value, sum(terms))), bool(terms.jacobian > 0), float(terms.curvature)
      (True, True, 0.0)

    References:
      Carratino et al., `On Mixup Regularization <https://arxiv.org/abs/2006.06049>`_, 2022
    """
    checks.key(rng)
    n, _ = checks.batch_shape(batch)
    checks.targets(labels, n)
    for path, leaf in jax.tree.leaves_with_path(batch):
        checks.floats("batch" + jax.tree_util.keystr(path), leaf)
    if loss not in ("cross_entropy", "squared_error"):
        raise ValueError(f"unknown loss {loss!r}: take cross_entropy or squared_error")
    if not 1 <= num_partners <= n:
        raise ValueError(f"num_partners must be from 1 to the {n} samples, got {num_partners}")
    batch, labels = jax.tree.map(jnp.asarray, batch), jnp.asarray(labels, jnp.float32)
    partner_rng, sign_rng = jax.random.split(rng)
    expected, variance = theta_moments(alpha)
    variances = jnp.stack([variance, variance + (1 - expected) ** 2])
    deviations = jnp.sqrt(jnp.maximum(variances, 1e-12))  # the root of 0 has no gradient
    means = jax.tree.map(lambda leaf: jnp.mean(jnp.asarray(leaf, jnp.float32), axis=0), (batch, labels))
    inputs, targets = contract((batch, labels), means, alpha=alpha)
    shifts = jax.random.permutation(partner_rng, n)[:num_partners]
    partners = (jnp.arange(n)[None] + shifts[:, None]) % n
    own, other = deviations[:, None] * jax.random.rademacher(sign_rng, (2, n), jnp.float32)

    def along_both(leaf: Array, mean: Array) -> Array:
        """Returns the perturbation along the sample and its partners, [num_partners, *leaf.shape]."""
        centred, axes = leaf.astype(jnp.float32) - mean[None], range(1, leaf.ndim)
        own_part, scale = jnp.expand_dims(own, axes) * centred, jnp.expand_dims(other, axes)
        return (own_part[None] + scale[None] * centred[partners]).astype(leaf.dtype)

    moves, label_moves = jax.tree.map(along_both, (batch, labels), means)

    def outputs(inputs: Batch) -> Array:
        return predict(inputs).astype(jnp.float32)

    values, along = jax.linearize(outputs, inputs)
    if labels.ndim != 2 or values.shape != labels.shape:
        raise ValueError(f"predict returned shape {values.shape} for labels {labels.shape}: make both [n, c]")
    gradient, metric = _derivatives(loss, values, targets)
    slopes = jax.vmap(along)(moves)  # [num_partners, n, c]
    bends = jax.vmap(lambda move: _second_derivative(outputs, inputs, move))(moves) if curvature else None
    data = jnp.mean(_loss(loss, values, labels))
    zero = jnp.zeros((), jnp.float32)
    terms = Terms(
        data=data,
        label_smoothing=jnp.mean(_loss(loss, values, targets)) - data,
        jacobian=0.5 * jnp.mean(jax.vmap(metric)(slopes)),
        curvature=zero if bends is None else 0.5 * jnp.mean(jnp.sum(gradient[None] * bends, axis=-1)),
        alignment=-jnp.mean(jnp.sum(label_moves * slopes, axis=-1)),
        label_variance=0.5 * jnp.mean(jnp.sum(label_moves**2, axis=-1)) if loss == "squared_error" else zero,
    )
    return jnp.sum(jnp.stack(terms)), terms


def _second_derivative(function: Callable[[Batch], Array], inputs: Batch, move: Batch) -> Array:
    """Returns the second derivative of a function along a direction."""
    return jax.jvp(lambda moved: jax.jvp(function, (moved,), (move,))[1], (inputs,), (move,))[1]


def _loss(loss: str, values: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, " n"]:
    if loss == "squared_error":
        return 0.5 * jnp.sum((values - targets) ** 2, axis=-1)
    return -jnp.sum(targets * jax.nn.log_softmax(values), axis=-1)


def _derivatives(
    loss: str, values: Float[Array, "n c"], targets: Float[Array, "n c"]
) -> tuple[Float[Array, "n c"], Callable[[Float[Array, "n c"]], Float[Array, " n"]]]:
    """Returns the loss's gradient by the values, and its second derivative along a direction as a function."""
    if loss == "squared_error":
        return values - targets, lambda slope: jnp.sum(slope**2, axis=-1)
    probabilities = jax.nn.softmax(values)

    def variance(slope):
        return jnp.sum(probabilities * slope**2, axis=-1) - jnp.sum(probabilities * slope, axis=-1) ** 2

    return probabilities - targets, variance
