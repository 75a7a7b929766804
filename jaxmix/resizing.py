"""The method that pastes the whole partner, resized to a patch."""

import functools

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Int, PRNGKeyArray

from jaxmix import checks, core, layout, pairings
from jaxmix.masks import axes
from jaxmix.types import Batch, Labels, PairingFn, Scalar, Space


def resizemix(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    scale: tuple[Scalar, Scalar] = (0.1, 0.8),
    pairing: PairingFn = pairings.permutation,
    shared: bool = False,
) -> tuple[Batch, Labels]:
    r"""Pastes the whole partner, resized to a patch, into every sample and mixes labels by the patch's true area.

    .. math:: \tilde x = W \odot x + (1 - W) \odot R(x_\pi), \quad \tilde y = \bar W y + (1 - \bar W) y_\pi

    W is zero in a patch and one elsewhere. R resizes the partner to the patch. The patch's sides
    are the sample's times :math:`\tau \sim U(\text{scale})`, rounded to whole places (halves to
    even), and at least one place long. All positions at which the patch lies inside the sample
    are equally likely.

    Resizing takes the nearest place and does not interpolate, so it treats class maps like
    images. A sample that is its own partner is pasted into itself.

    Args:
      batch: samples [n, *space, channels], floats or uint8 pixels, or a pytree of arrays aligned
        in n and space. Any number of spatial axes; channels come last, so gray images end in
        [..., None]. Other dtypes work too: class maps and padding masks are selected, not blended.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      scale: range (low, high) of the patch's sides as shares of the sample's sides, in [0, 1].
        Not checked when traced.
      pairing: picks each sample's partner; by default a random permutation.
      shared: draw ratio and mask once for the whole batch rather than once per sample.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if scale is not a range within [0, 1], shapes do not match, or the batch has no
        spatial axis longer than 1.
      TypeError: if labels are not float.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.eye(4)
      >>> jaxmix.resizemix(images, labels, jax.random.key(0))[1].shape
      (4, 4)

    References:
      Qin et al., `ResizeMix: Mixing Data with Preserved Object Information and True Labels
      <https://arxiv.org/abs/2012.11101>`_, 2020
    """
    checks.key(rng)
    checks.interval("scale", scale)
    n, space = checks.batch_shape(batch)
    axes.rank(space)
    checks.aligned(batch, (n, *space))
    pairing_rng, patch_rng = jax.random.split(rng)
    partner = core.partners(batch, pairing_rng, pairing=pairing, labels=labels)
    sides, sources = _patches(space, scale, 1 if shared else n, patch_rng)
    inside = functools.reduce(jnp.logical_and, axes.spread(sides))
    weight = jnp.broadcast_to(~inside, (n, *space))
    sources = [jnp.broadcast_to(source, (n, source.shape[1])) for source in sources]

    def pasted(leaf):
        kept = jnp.expand_dims(weight, range(weight.ndim, leaf.ndim))
        return jnp.where(kept, leaf, _resampled(layout.rows(leaf, partner), sources))

    _, targets = core.apply(core.Mix(partner, weight), (), labels)
    return jax.tree.map(lambda leaf: pasted(jnp.asarray(leaf)), batch), targets


def _patches(
    space: Space, scale: tuple[Scalar, Scalar], n: int, rng: PRNGKeyArray
) -> tuple[list[Bool[Array, "n _"]], list[Int[Array, "n _"]]]:
    """Returns for every axis which places lie in the patch, and which place of the partner each place shows."""
    scale_rng, *starts = jax.random.split(rng, 1 + len(space))
    tau = jax.random.uniform(scale_rng, (n,), jnp.float32, *scale)
    sides, sources = [], []
    for length, start_rng in zip(space, starts, strict=True):
        size = jnp.maximum(jnp.round(tau * length).astype(jnp.int32), 1)[:, None]
        start = jax.random.randint(start_rng, (n, 1), 0, length - size + 1, jnp.int32)
        place = jnp.arange(length, dtype=jnp.int32)[None] - start
        sides.append((place >= 0) & (place < size))
        sources.append(_source(jnp.clip(place, 0, size - 1), size, length))
    return sides, sources


def _source(place: Int[Array, "n l"], size: Int[Array, "n 1"], length: int) -> Int[Array, "n l"]:
    """Returns floor((place + 1/2) length / size), in integers.

    The float estimate is off by at most one. The remainder is small, so it is exact even if both
    of its terms overflow int32.
    """
    numerator, denominator = (2 * place + 1) * length, 2 * size
    estimate = ((2 * place + 1).astype(jnp.float32) * (length / denominator.astype(jnp.float32))).astype(jnp.int32)
    return estimate + (numerator - estimate * denominator) // denominator


def _resampled(x: Array, sources: list[Int[Array, "n _"]]) -> Array:
    """Returns x at the given places of every axis of its space."""

    def along(sample: Array, source: Array, axis: int) -> Array:
        return jnp.moveaxis(layout.rows(jnp.moveaxis(sample, axis, 0), source), 0, axis)

    for axis, source in enumerate(sources):
        x = jax.vmap(functools.partial(along, axis=axis))(x, layout.beside(source, x))
    return x
