"""Methods that paste the most salient part of the partner: their masks look at a guide."""

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

    W is zero in a box, whose area is :math:`1 - \lambda` before clipping and rounding, and one
    elsewhere. :math:`\bar W` is its mean. The box is centred where the partner's guide is
    highest. The released code looks at one sample of a batch, and cuts the same box from all.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Leaves of other dtypes work too, if the guide takes them. The default
        guide looks at the leaf of highest rank, which must be floats or uint8 pixels.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      guide: returns how salient each place is, batch -> [n, *space] or coarser; by default the
        spectral residual. To use a network, pass `lambda batch: attention_of(params, batch)`.
        No gradient flows through the guide.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample. Samples
        then share the ratio only: each box still lies where its partner is salient.

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
    r"""Replaces cells of every sample by the partner's most salient cells.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is zero in those cells of a grid and one elsewhere. :math:`\bar W` is its mean. This is
    Attentive CutMix, in which the last feature map of a pretrained network is the guide. All
    samples have the same ratio. To draw it, call `mix` with `ratios.beta` and
    `masks.salient_cells`.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Leaves of other dtypes work too, if the guide takes them. The default
        guide looks at the leaf of highest rank, which must be floats or uint8 pixels.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      ratio: the sample's own share before rounding to cells, in [0, 1]. The paper gives 6 of
        7 x 7 cells to the partner. Not checked when traced.
      cells: number of cells along each axis, at most the number of places of the axis and of the
        guide.
      guide: returns how salient each place is, batch -> [n, *space] or coarser; by default the
        spectral residual. To use a network, pass `lambda batch: attention_of(params, batch)`.
        No gradient flows through the guide.
      pairing: picks each sample's partner; by default a random permutation.

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
