"""Methods that blend pairs: each is `core.mix` with its own pairing, ratio and mask."""

import functools
from typing import Literal

from jaxtyping import PRNGKeyArray

from jaxmix import core, masks, pairings, ratios
from jaxmix.types import AssignmentFn, Batch, FeatureFn, Labels, PairingFn, Scalar


def mixup(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Blends every sample with its partner.

    .. math:: \tilde x = \lambda x + (1 - \lambda) x_\pi, \quad \tilde y = \lambda y + (1 - \lambda) y_\pi,
        \quad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    Args:
      batch: samples [n, ...], floats or uint8 pixels, or a pytree of arrays with one row per
        sample. Embeddings and logits work like inputs.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, or shapes do not match.
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.mixup(images, labels, jax.random.key(0), alpha=0.2)[1].shape
      (4, 4)

    References:
      Zhang et al., `mixup: Beyond Empirical Risk Minimization
      <https://arxiv.org/abs/1710.09412>`_, 2018
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.uniform,
        shared=shared,
    )


def hmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    area_ratio: Scalar = 0.5,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces a box of every sample by the partner's and blends the rest: between Mixup and CutMix.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \lambda y + (1 - \lambda) y_\pi

    W is zero in a box, whose area is :math:`(1 - \lambda) \rho` before clipping and rounding.
    Elsewhere W is the number that makes its mean :math:`\lambda`.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Segmentation masks are one-hot.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      area_ratio: :math:`\rho`, the part of the partner's share that is in the box, in [0, 1]. At
        0 this is Mixup. Not checked when traced.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, area_ratio lies outside [0, 1], shapes
        do not match, or the batch has no spatial axis longer than 1.
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.hmix(images, labels, jax.random.key(0), area_ratio=0.25)[1].shape
      (4, 4)

    References:
      Park et al., `A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
      Perspective <https://arxiv.org/abs/2208.09913>`_, 2022
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=functools.partial(masks.framed_box, area_ratio=area_ratio),
        shared=shared,
    )


def gmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Blends every sample with its partner by a bell-shaped spot at a random place.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is the mask `masks.gaussian`, and :math:`\bar W` is its mean.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Segmentation masks are one-hot.
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
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.gmix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Park et al., `A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
      Perspective <https://arxiv.org/abs/2208.09913>`_, 2022
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.gaussian,
        shared=shared,
    )


def smoothmix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    alpha: Scalar = 1.0,
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Replaces a spot of every sample by the partner's, with a smooth border.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is the mask `masks.smooth_spot`, and its mean :math:`\bar W` is the ratio. The released code
    draws the spot's width instead of the ratio. On square images the sample's share then lies
    between .27 and .90, with mean .57 and standard deviation .13. With alpha = 7 the ratio has
    the same deviation, and mean one half.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Segmentation masks are one-hot.
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
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.smoothmix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Lee et al., `SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust Classifiers
      <https://doi.org/10.1109/CVPRW50498.2020.00386>`_, 2020
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=pairing,
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.smooth_spot,
        shared=shared,
    )


def kmixup(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    k: int = 16,
    alpha: Scalar = 1.0,
    solver: Literal["sinkhorn", "exact"] | AssignmentFn = "sinkhorn",
    cost: Literal["sqeuclidean", "euclidean"] = "sqeuclidean",
    groups: Literal["disjoint", "permute"] = "disjoint",
    features: FeatureFn | None = None,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Blends every sample with the partner that optimal transport between groups of k assigns to it.

    .. math:: \tilde x_i = \lambda x_i + (1 - \lambda) x'_{\sigma(i)}, \quad
        \sigma = \arg\min_{\text{permutations}} \sum_{i=1}^k d(x_i, x'_{\sigma(i)})

    The larger k is, the nearer mixed samples stay to the data's clusters and manifolds. At equal
    alpha they also move less; `ratios.matched_alpha` returns the alpha that makes up for it.

    Args:
      batch: samples [n, ...], floats or uint8 pixels, or a pytree of arrays with one row per
        sample. Transport matches the leaf of highest rank (the first on a tie, in the order of
        sorted keys for dictionaries).
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      k: size of the groups. It divides n into at least two groups, or is 1. With k = 1 this is
        `mixup`, draw for draw.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      solver: "sinkhorn", "exact", or a function costs [g, k, k] -> columns [g, k].
      cost: "sqeuclidean", the squared Euclidean distance, or "euclidean", the distance, as in the
        authors' code.
      groups: "disjoint", or "permute" as in the authors' code; see `pairings.transport`.
      features: batch -> [n, ...], the features to match; by default the leaf of highest rank.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if k does not divide n or leaves fewer than two groups, alpha is not
        positive and finite, an option is unknown, or shapes do not match.
      TypeError: if labels are not float, or the batch is neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((8, 8, 8, 3)), jnp.eye(8)
      >>> jaxmix.kmixup(images, labels, jax.random.key(0), k=4)[1].shape
      (8, 8)

    References:
      Greenewald et al., `k-Mixup Regularization for Deep Learning via Optimal Transport
      <https://arxiv.org/abs/2106.02933>`_, 2021
    """
    return core.mix(
        batch,
        labels,
        rng,
        pairing=functools.partial(pairings.transport, k=k, solver=solver, cost=cost, groups=groups, features=features),
        ratio=functools.partial(ratios.beta, alpha=alpha),
        mask=masks.uniform,
        shared=shared,
    )
