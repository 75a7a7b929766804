"""Mixup of a network that is linearized in Mixup's perturbations."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.regularization.contraction import contract, dataset_means, perturbed_erm
from jaxmix.types import Batch, Labels, Scalar


def linearized_mixup(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    predict: Callable[[Batch], Float[Array, "n *r c"]],
    alpha: Scalar = 1.0,
) -> tuple[Float[Array, "n *r c"], Labels]:
    r"""Returns the outputs of a linearized network for mixed samples, and the mixed labels.

    .. math:: f(\tilde x_i) + J_f(\tilde x_i)\, \delta_i, \quad \tilde y_i + \epsilon_i

    The network is linearized around contracted samples :math:`\tilde x_i`. The perturbations
    :math:`\delta_i` and :math:`\epsilon_i` are those of `perturbed_erm`. Any loss of the outputs and
    labels agrees with `approximate_mixup_loss` to second order, except for the curvature term. It
    has a lower bound if the loss itself has one. One Jacobian-vector product computes the outputs,
    without second derivatives.

    The network sees contracted samples only, also in its batch statistics: `rescale` it at test time.

    Args:
      batch: float samples [n, ...], or a pytree of them.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      predict: samples -> outputs [n, ..., c], with parameters bound.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.

    Returns:
      The outputs, shaped and typed like predict's, and the mixed labels, shaped and typed like the
      labels.

    Raises:
      ValueError: if alpha is not positive and finite, or shapes do not match.
      TypeError: if batch or labels are not float.

    Example:
      >>> x, y = jnp.array([[1.0], [-1.0]]), jnp.eye(2)
      >>> predict = lambda x: x * jnp.array([[1.0, -1.0]])
      >>> outputs, mixed = regularization.linearized_mixup(x, y, jax.random.key(0), predict=predict)
      >>> outputs.shape, mixed.shape
      ((2, 2), (2, 2))

    References:
      Carratino et al., `On Mixup Regularization <https://arxiv.org/abs/2006.06049>`_, 2022, for the
      expansion; the linearized form is this library's own
    """
    checks.key(rng)
    for path, leaf in jax.tree.leaves_with_path(batch):
        checks.floats("batch" + jax.tree_util.keystr(path), leaf)
    batch = jax.tree.map(jnp.asarray, batch)
    mixed, targets = perturbed_erm(batch, labels, rng, alpha=alpha)
    mean_batch, _ = dataset_means([(batch, None)])
    contracted = contract(batch, mean_batch, alpha=alpha)
    perturbation = jax.tree.map(jnp.subtract, mixed, contracted)
    outputs, change = jax.jvp(predict, (contracted,), (perturbation,))
    return outputs + change, targets
