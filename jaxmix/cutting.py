"""Methods that paste pixels of the partner: their masks are booleans, which select."""

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
    r"""Replaces a box of every sample by the partner's and mixes labels by the box's true area.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is zero in a box, whose area is :math:`1 - \lambda` before clipping and rounding, and one
    elsewhere. :math:`\bar W` is its mean.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Other dtypes work too: class maps and padding masks are selected, not blended.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      pairing: picks each sample's partner; by default a random permutation.
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


def fmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    decay: Scalar = 3.0,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces regions of every sample, cut out by smooth noise, by the partner's.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is one where the noise of `masks.fourier` is highest, in a share :math:`\lambda` of the
    places, and zero elsewhere. :math:`\bar W` is its mean.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Other dtypes work too: class maps and padding masks are selected, not blended.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      decay: exponent of the noise's spectrum, at least 0: amplitudes fall as the frequency to the
        power -decay. A larger decay gives smoother borders. Not checked when traced.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, decay is negative or not finite,
        shapes do not match, or the batch has no spatial axis longer than 1.
      TypeError: if labels are not float.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.fmix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Harris et al., `FMix: Enhancing Mixed Sample Data Augmentation
      <https://arxiv.org/abs/2002.12047>`_, 2020
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=functools.partial(masks.fourier, decay=decay),
        shared=shared,
    )


def gridmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    cells: int = 4,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces cells of a grid by the partner's.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is one in each cell of a grid with probability :math:`\lambda`, else zero, and
    :math:`\bar W` is its mean. The paper also trains the network to predict each cell's label.
    For that, `draw` with `masks.grid` returns which cells are the sample's own.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Other dtypes work too: class maps and padding masks are selected, not blended.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      cells: number of cells along each axis. A shorter axis has one cell for each place.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, cells is less than 1, shapes do not
        match, or the batch has no spatial axis longer than 1.
      TypeError: if labels are not float.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.gridmix(images, labels, jax.random.key(0), cells=2)[1].shape
      (4, 4)

    References:
      Baek et al., `GridMix: Strong regularization through local context mapping
      <https://doi.org/10.1016/j.patcog.2020.107594>`_, 2021
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=functools.partial(masks.grid, cells=cells),
        shared=shared,
    )
