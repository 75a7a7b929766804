"""The methods that cut from the partner what counts most in it: their masks look at a guide."""

import functools

from jaxtyping import PRNGKeyArray

from jaxmix import core, masks, pairings, ratios, saliency
from jaxmix.types import Batch, FeatureFn, Labels, PairingFn, Scalar


def saliencymix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    guide: FeatureFn = saliency.spectral_residual,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces a box of every sample by the partner's box around its most salient place.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    with W zero in a box of area :math:`1 - \lambda` before clipping and rounding, one
    elsewhere, and :math:`\bar W` its mean. The box' centre is where the guide of the partner is
    highest. The released code looks at one sample of a batch, and cuts the same box from all.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Leaves of any other dtype, too, as the guide may look at: the ready-made
        one looks at the leaf of highest rank, which has to be floats or pixels.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta, > 0; not checked where it is traced.
      guide: how salient each place is, batch -> [n, *space] or coarser. A network is one by
        `guide=lambda batch: attention_of(params, batch)`; no gradient flows through it.
      pairing: who is mixed with whom.
      shared: draw ratio and mask once for the whole batch rather than once per sample. Only the
        ratio is the same then: each box is where its partner is salient.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, shapes do not match, or the batch has
        no spatial axis longer than 1.
      TypeError: if labels are not float, or the guide does not take the batch.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.saliencymix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Uddin et al., `SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better
      Regularization <https://arxiv.org/abs/2006.01791>`_, 2021
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.salient_box,
        shared=shared,
        guide=guide,
    )


def attentivemix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    ratio: Scalar = 43 / 49,
    cells: int = 7,
    guide: FeatureFn = saliency.spectral_residual,
    pairing: PairingFn = pairings.permutation,
) -> tuple[Batch, Labels]:
    r"""Replaces the cells of every sample in which the partner is most salient by the partner's.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    with W zero in those cells of a grid, one elsewhere, and :math:`\bar W` its mean. It is
    Attentive CutMix, whose guide is the last map of a pretrained network. The share is the same
    for all; for one that is drawn, put `ratios.beta` and `masks.salient_cells` together by `mix`.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Leaves of any other dtype, too, as the guide may look at: the ready-made
        one looks at the leaf of highest rank, which has to be floats or pixels.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      ratio: the sample's own share before rounding to cells, in [0, 1]; 6 of 7 x 7 cells are the
        partner's in the paper. Not checked where it is traced.
      cells: number of cells along each axis; as many as the axis or the guide has places, where
        these are fewer.
      guide: how salient each place is, batch -> [n, *space] or coarser. A network is one by
        `guide=lambda batch: attention_of(params, batch)`; no gradient flows through it.
      pairing: who is mixed with whom.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if ratio lies outside [0, 1], cells is less than 1, shapes do not match, or the
        batch has no spatial axis longer than 1.
      TypeError: if labels are not float, or the guide does not take the batch.

    Example:
      >>> images, labels = jnp.ones((4, 14, 14, 3)), jnp.eye(4)
      >>> jaxmix.attentivemix(images, labels, jax.random.key(0), ratio=0.5)[1].shape
      (4, 4)

    References:
      Walawalkar et al., `Attentive CutMix: An Enhanced Data Augmentation Approach for Deep
      Learning Based Image Classification <https://arxiv.org/abs/2003.13048>`_, 2020
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.constant, ratio=ratio),
        mask=functools.partial(masks.salient_cells, cells=cells),
        guide=guide,
    )
