"""The functions that every pairwise method is composed of.

draw        picks partners, ratios and weights, and returns them as a Mix
apply       mixes a batch and its labels by a Mix
mix         draws and applies
combine     mixes whole batches by any matrix of weights
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from jaxmix import checks, dtypes, layout, signatures, weighing
from jaxmix.types import Batch, FeatureFn, Guide, Labels, MaskFn, PairingFn, RatioFn, Space


class Mix(NamedTuple):
    """The record of a draw, which you can log, replay and apply to more arrays.

    Attributes:
      partner: index of every sample's partner, [n].
      weight: the sample's own weight, float32; the partner's is 1 - weight. Or booleans, which
        are true where the sample stays. [n] for whole samples, [n, *space] for every place.
      share: the sample's share of the labels, [n], if it is not the mean of weight. TransMix, for
        example, takes it from a network's attention. `draw` leaves it None.
    """

    partner: Int[Array, " n"]
    weight: Float[Array, "n *space"] | Bool[Array, "n *space"]
    share: Float[Array, " n"] | None = None

    @property
    def ratio(self) -> Float[Array, "*batches n"]:
        """The sample's share of the labels, [n]: `share` if set, else the mean of `weight` over space."""
        if self.share is not None:
            return self.share
        return weighing.mean(self.weight, num_axes=self.weight.ndim - self.partner.ndim)


def draw(
    batch: Batch,
    rng: PRNGKeyArray,
    *,
    pairing: PairingFn,
    ratio: RatioFn,
    mask: MaskFn,
    shared: bool = False,
    guide: FeatureFn | None = None,
    labels: Labels = None,
) -> Mix:
    """Draws partners, ratios and weights for a batch.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. With weights [n], leaves need only one row per sample. With boolean
        weights, leaves may have any dtype.
      rng: a JAX key.
      pairing: picks each sample's partner, (batch, rng) -> partner [n].
      ratio: draws each sample's own share, (n, rng) -> [n].
      mask: draws each sample's own weights, (space, ratio, rng) -> [n] or [n, *space], floats or
        booleans.
      shared: draw ratio and mask once for the whole batch rather than once per sample. With a
        guided mask, samples share the ratio only.
      guide: maps for a guided mask, batch -> [n, *space] or coarser, such as
        `saliency.spectral_residual`. No gradient flows through it.
      labels: float targets [n, ...], a pytree of them, or None. Only a pairing with an option
        `labels` uses them here.

    Returns:
      The record of the draw.

    Raises:
      ValueError: if the batch is empty or its leaves differ in n, if a part returns another
        shape than the above, if a guided mask has no guide or two, or if there is a guide and
        the mask is not guided.
      TypeError: if a leaf is neither float nor uint8 and weights are not booleans, if partners
        are not integers, or if the guide does not return an array of real numbers.

    Example:
      >>> images = jnp.ones((4, 8, 8, 3))
      >>> mix = jaxmix.draw(images, jax.random.key(0), pairing=pairings.roll,
      ...                   ratio=ratios.beta, mask=masks.box)
      >>> mix.weight.shape, mix.ratio.shape
      ((4, 8, 8), (4,))
    """
    checks.key(rng)
    n, space = checks.batch_shape(batch)
    pairing_rng, ratio_rng, mask_rng = jax.random.split(rng, 3)
    num_draws = 1 if shared else n
    partner = partners(batch, pairing_rng, pairing=pairing, labels=labels)
    shares = _shaped("ratio", ratio(num_draws, ratio_rng), (num_draws,))
    if guide is not None:
        if "guide" not in signatures.options(mask):
            raise ValueError(
                f"the mask {signatures.name_of(mask)} looks at no guide: leave guide=, or take a guided mask"
            )
        if "guide" in getattr(mask, "keywords", {}):
            raise ValueError(f"the mask {signatures.name_of(mask)} is bound to a guide already: leave one of the two")
        num_draws, shares = n, jnp.broadcast_to(shares, (n,))
        mask = _looking(mask, guide=_guide_of(batch, partner, guide, space))
    weight = _shaped("mask", mask(space, shares, mask_rng), (num_draws,), (num_draws, *space))
    if weight.dtype != jnp.bool_:
        checks.mixable("batch", batch)
        weight = weight.astype(jnp.float32)
    return Mix(partner, jnp.broadcast_to(weight, (n, *weight.shape[1:])))


def partners(batch: Batch, rng: PRNGKeyArray, *, pairing: PairingFn, labels: Labels = None) -> Int[Array, " n"]:
    """Draws partners alone, for methods that do more than `apply`.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: a JAX key.
      pairing: picks each sample's partner, (batch, rng) -> partner [n].
      labels: float targets [n, ...], a pytree of them, or None. Only a pairing with an option
        `labels` uses them.

    Returns:
      Partner indices [n].

    Raises:
      ValueError: if the batch is empty, its leaves differ in n, or the pairing returns another
        shape than [n].
      TypeError: if partners are not integers.

    Example:
      >>> core.partners(jnp.ones((3, 2)), jax.random.key(0), pairing=pairings.roll).tolist()
      [1, 2, 0]
    """
    checks.key(rng)
    n, _ = checks.batch_shape(batch)
    partner = _shaped("pairing", _looking(pairing, labels=labels)(batch, rng), (n,))
    if not jnp.issubdtype(partner.dtype, jnp.integer):
        raise TypeError(f"the pairing returned {partner.dtype}, where integer indices of partners were expected")
    return partner


def apply(mix: Mix, batch: Batch, labels: Labels = None) -> tuple[Batch, Labels]:
    r"""Mixes a batch by the weight of a draw, and labels by its ratio.

    .. math:: \tilde x = W \odot x + (1 - W) \odot x_\pi, \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    Args:
      mix: the record that `draw` returned for this batch, or for a batch aligned with it.
      batch: an array [n, *space, ...], or a pytree of them; [n, ...] if weights are [n]. Floats,
        or uint8 pixels, which are mixed in float32 and rounded. With boolean weights, which
        select, any dtype.
      labels: float targets [n, ...], a pytree of them, or None.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs. Float weights pass on a
      partner's NaN or infinity even where the partner's weight is 0; boolean weights do not.

    Raises:
      ValueError: if a leaf does not start with the shape of the weights, if there is not one
        partner for each row of weights, or if a share is not [n].
      TypeError: if a leaf of the batch is neither float nor uint8 and weights are not booleans,
        or labels are not float.

    Example:
      >>> mix = jaxmix.Mix(partner=jnp.array([1, 0]), weight=jnp.array([0.75, 1.0]))
      >>> samples, labels = jaxmix.apply(mix, jnp.array([[0.0], [4.0]]), jnp.eye(2))
      >>> samples.tolist(), labels.tolist()
      ([[1.0], [4.0]], [[0.75, 0.25], [0.0, 1.0]])
    """
    if mix.partner.shape != mix.weight.shape[:1]:
        raise ValueError(
            f"the mix has partners {mix.partner.shape}, but weights {mix.weight.shape}: take one of each per sample"
        )
    if mix.share is not None and jnp.shape(mix.share) != mix.partner.shape:
        raise ValueError(f"the mix has a share of shape {jnp.shape(mix.share)}, where {mix.partner.shape} was expected")
    if 0 in mix.weight.shape:
        raise ValueError(
            f"the mix has weights {mix.weight.shape}: mixing needs at least one sample, and one place in it"
        )
    hard = mix.weight.dtype == jnp.bool_
    if not hard:
        checks.mixable("batch", batch)
    checks.aligned(batch, mix.weight.shape)
    checks.targets(labels, mix.partner.shape[0])
    ratio, join = mix.ratio, weighing.select if hard else weighing.blend
    return (
        jax.tree.map(lambda leaf: join(jnp.asarray(leaf), mix.partner, mix.weight), batch),
        jax.tree.map(lambda leaf: weighing.blend(jnp.asarray(leaf), mix.partner, ratio), labels),
    )


def mix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    pairing: PairingFn,
    ratio: RatioFn,
    mask: MaskFn,
    shared: bool = False,
    guide: FeatureFn | None = None,
) -> tuple[Batch, Labels]:
    """Draws and applies a mix: every pairwise method is this function with its own parts.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. With weights [n], leaves need only one row per sample. With boolean
        weights, leaves may have any dtype.
      labels: float targets [n, ...], a pytree of them, or None. A pairing with an option `labels`
        uses them, too.
      rng: a JAX key.
      pairing: picks each sample's partner, (batch, rng) -> partner [n].
      ratio: draws each sample's own share, (n, rng) -> [n].
      mask: draws each sample's own weights, (space, ratio, rng) -> [n] or [n, *space], floats or
        booleans.
      shared: draw ratio and mask once for the whole batch rather than once per sample.
      guide: maps for a guided mask, batch -> [n, *space] or coarser; None for other masks.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: as `draw` and `apply` do.
      TypeError: as `draw` and `apply` do.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> _, mixed = jaxmix.mix(images, labels, jax.random.key(0), pairing=pairings.roll,
      ...                       ratio=ratios.beta, mask=masks.box)
      >>> mixed.shape
      (4, 4)
    """
    drawn = draw(batch, rng, pairing=pairing, ratio=ratio, mask=mask, shared=shared, guide=guide, labels=labels)
    return apply(drawn, batch, labels)


def combine(weights: Float[Array, "n m"], x: PyTree) -> PyTree:
    """Returns weighted sums over the whole batch, where `apply` mixes two samples.

    Args:
      weights: [n, m]. Nonnegative rows that sum to 1 give points in the convex hull of x.
      x: an array [m, ...], floats or uint8 pixels, or a pytree of them.

    Returns:
      Arrays [n, ...], computed in float32 and typed like x.

    Raises:
      ValueError: if weights are not a matrix, or a leaf does not have m rows.
      TypeError: if a leaf is neither float nor uint8.

    Example:
      >>> jaxmix.combine(jnp.array([[0.5, 0.5]]), jnp.array([[0.0, 2.0], [4.0, 2.0]]))
      Array([[2., 2.]], dtype=float32)
    """
    if jnp.ndim(weights) != 2:
        raise ValueError(f"weights must be [n, m], one row per result, got shape {jnp.shape(weights)}")
    m = weights.shape[1]
    checks.mixable("x", x)
    for path, leaf in jax.tree.leaves_with_path(x):
        if jnp.shape(leaf)[:1] != (m,):
            raise ValueError(
                f"x{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, but the weights are for {m} rows"
            )

    def weighted_sum(leaf):
        wide = dtypes.widened(layout.whole(leaf))
        return dtypes.narrowed(jnp.tensordot(weights.astype(wide.dtype), wide, 1, precision="highest"), leaf.dtype)

    return jax.tree.map(lambda leaf: weighted_sum(jnp.asarray(leaf)), x)


def _looking(part: Any, **seen: Any) -> Any:
    """Binds a part to those of the values for which it has an option that is not bound yet."""
    bound = getattr(part, "keywords", {})
    wanted = {name: value for name, value in seen.items() if name in signatures.options(part) and name not in bound}
    return functools.partial(part, **wanted) if wanted else part


def _guide_of(batch: Batch, partner: Array, guide: FeatureFn, space: Space) -> Guide:
    """Returns a guide's maps of every sample and of its partner, without gradients."""
    maps = guide(jax.lax.stop_gradient(batch))
    dtype = getattr(maps, "dtype", None)
    if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        found = type(maps).__name__ if dtype is None else dtype
        raise TypeError(f"the guide {signatures.name_of(guide)} returned {found}, where an array of reals was expected")
    maps = jax.lax.stop_gradient(jnp.asarray(maps).astype(jnp.float32))
    if maps.ndim != 1 + len(space) or len(maps) != len(partner) or 0 in maps.shape:
        raise ValueError(
            f"the guide returned shape {maps.shape}, where [{len(partner)}, *places] was expected, "
            f"with as many axes of places as space {space} has"
        )
    return Guide(maps, layout.rows(maps, partner))


def _shaped(part: str, value: Array, *shapes: tuple[int, ...]) -> Array:
    """Returns a part's value, after checking that it has one of the expected shapes."""
    if jnp.shape(value) not in shapes:
        wanted = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
        raise ValueError(f"the {part} returned shape {jnp.shape(value)}, where {wanted} was expected")
    return value
