"""The methods that cut from the partner, pixel by pixel: their masks are booleans, which select."""

import functools

from jaxtyping import PRNGKeyArray

from jaxmix import core, masks, pairings, ratios
from jaxmix.types import Batch, Labels, PairingFn, Scalar


def cutmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces a box of every sample by the partner's, and mixes labels by the box' true area.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    with W zero in a box of area :math:`1 - \lambda` before clipping and rounding, one
    elsewhere, and :math:`\bar W` its mean.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Of any number of spatial axes, channels last: gray images end in
        [..., None]. Any other dtype, too: class maps and padding masks are selected, not blended.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta, > 0; not checked where it is traced.
      pairing: who is mixed with whom.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, shapes do not match, or the batch has
        no spatial axis longer than 1.
      TypeError: if labels are not float.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.cutmix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Yun et al., `CutMix: Regularization Strategy to Train Strong Classifiers with
      Localizable Features <https://arxiv.org/abs/1905.04899>`_, 2019
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.box,
        shared=shared,
    )
