"""Mixing in the latent space of a generative model: VarMixup, its adversarial form, and its control."""

from collections.abc import Callable
import functools
from typing import Any, Literal

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import blending, checks, combinators, core, layout, masks, pairings, ratios
from jaxmix.types import Batch, Labels, MixFn, PairingFn, Scalar


def varmixup(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    encode: Callable[[Batch], Array],
    decode: Callable[[Array], Batch],
    alpha: Scalar = 1.0,
    interpolation: Literal["linear", "slerp"] = "linear",
    real_fraction: Scalar = 0.0,
    pairing: PairingFn = pairings.permutation,
) -> tuple[Batch, Labels]:
    r"""Mixes samples in the latent space of a generative model and decodes the mix.

    .. math:: \tilde x = D\big(\lambda E(x) + (1 - \lambda) E(x_\pi)\big), \quad
        \tilde y = \lambda y + (1 - \lambda) y_\pi, \quad \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    No gradient flows through encoder and decoder. For k-mixup in latent space, use this method
    with `pairings.transport`. For any other method, use `in_latent_space`.

    Args:
      batch: samples [n, ...], as `encode` takes and `decode` returns them.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      encode: batch -> latents [n, ...], such as the mean of a VAE's posterior.
      decode: latents -> batch, such as the mean of a VAE's likelihood.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      interpolation: "linear", or "slerp" along the arc between two latents. An arc keeps the norm
        of latents, which a linear mix of independent latents shrinks.
      real_fraction: probability that a sample and its labels stay as they are, neither mixed nor
        decoded, in [0, 1]. Not checked when traced.
      pairing: picks each sample's partner, given the latents; by default a random permutation.

    Returns:
      The mixed batch and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha is not positive and finite, real_fraction lies outside [0, 1],
        interpolation is unknown, or `decode` returns other shapes or dtypes than the batch's.
      TypeError: if labels are not float, or latents are neither float nor uint8.

    Example:
      >>> images, labels = jnp.ones((4, 8, 8, 1)), jnp.eye(4)
      >>> mixed, _ = jaxmix.varmixup(images, labels, jax.random.key(0), alpha=0.2,
      ...     encode=lambda x: x.reshape(4, 64), decode=lambda z: z.reshape(4, 8, 8, 1))
      >>> mixed.shape
      (4, 8, 8, 1)

    References:
      Mangla et al., `On the benefits of defining vicinal distributions in latent space
      <https://arxiv.org/abs/2003.06566>`_, 2021
    """
    checks.probability("real_fraction", real_fraction)
    mixed = combinators.in_latent_space(
        _mix_of_latents(alpha, interpolation, pairing),
        encode=encode,
        decode=lambda latents: jax.lax.stop_gradient(decode(latents)),
    )
    if isinstance(real_fraction, jax.Array) or real_fraction > 0:
        mixed = combinators.sometimes(mixed, probability=1 - real_fraction)
    return mixed(batch, labels, rng)


def adversarial_varmixup(
    batch: Batch,
    labels: Labels,
    rng: PRNGKeyArray,
    *,
    encode: Callable[[Batch], Array],
    decode: Callable[[Array], Batch],
    loss: Callable[[Batch, Labels], Float[Array, ""]],
    epsilon: Scalar,
    num_steps: int = 3,
    alpha: Scalar = 1.0,
    interpolation: Literal["linear", "slerp"] = "linear",
    pairing: PairingFn = pairings.permutation,
) -> tuple[Batch, Labels]:
    """Mixes like VarMixup, but raises a loss by gradient steps on the mixed latents before it decodes them.

    Experimental: this is one reading of the paper. Each step adds 2.5 epsilon / num_steps times
    the sign of the gradient, and clips the latents to within epsilon of where they started.

    Args:
      batch: samples [n, ...], as `encode` takes and `decode` returns them.
      labels: float targets [n, ...], a pytree of them, or None.
      rng: a JAX key.
      encode: batch -> latents [n, ...].
      decode: latents -> batch; differentiable.
      loss: (batch, labels) -> the scalar to raise, such as the classifier's mean cross-entropy.
      epsilon: largest change of a latent in each coordinate, > 0. Not checked when traced.
      num_steps: number of gradient steps.
      alpha: concentration of the ratio's Beta distribution, > 0. Not checked when traced.
      interpolation: "linear" or "slerp".
      pairing: picks each sample's partner, given the latents; by default a random permutation.

    Returns:
      The mixed batch, through which no gradient flows, and labels, shaped and typed like the inputs.

    Raises:
      ValueError: if alpha or epsilon is not positive and finite, num_steps is less than 1,
        interpolation is unknown, or `decode` returns other shapes or dtypes than the batch's.
      TypeError: if labels are not float, or latents are neither float nor uint8.

    Example:
      >>> mixed, _ = latent.adversarial_varmixup(jnp.ones((4, 2)), jnp.eye(4), jax.random.key(0), epsilon=0.5,
      ...     encode=lambda x: x, decode=lambda z: z, loss=lambda x, y: x.sum())
      >>> mixed.tolist()[0]
      [1.5, 1.5]

    References:
      Mangla et al., `On the benefits of defining vicinal distributions in latent space
      <https://arxiv.org/abs/2003.06566>`_, 2021
    """
    checks.positive("epsilon", epsilon)
    checks.at_least_one("num_steps", num_steps)
    mixed, targets = _mix_of_latents(alpha, interpolation, pairing)(encode(batch), labels, rng)
    start = jax.lax.stop_gradient(mixed)

    def climb(_: Any, shift: Array) -> Array:
        gradient = jax.grad(lambda shift: loss(decode(start + shift), targets))(shift)
        return jnp.clip(shift + 2.5 * epsilon / num_steps * jnp.sign(gradient), -epsilon, epsilon)

    shift = jax.lax.fori_loop(0, num_steps, climb, jnp.zeros_like(start))
    decoded = jax.lax.stop_gradient(decode(start + shift))
    checks.same_shapes(decoded, batch, got_name="decode returns", expected_name="the batch is")
    return decoded, targets


def reconstruct(batch: Batch, *, encode: Callable[[Batch], Array], decode: Callable[[Array], Batch]) -> Batch:
    """Encodes and decodes a batch, without mixing.

    `mixup(reconstruct(batch), ...)` is the control of VarMixup. It separates the effect of
    mixing in latent space from that of reconstructing the images.

    Args:
      batch: samples [n, ...].
      encode: batch -> latents.
      decode: latents -> batch.

    Returns:
      The reconstructions, shaped and typed like the batch. No gradient flows through them.

    Raises:
      ValueError: if `decode` returns other shapes or dtypes than the batch's.

    Example:
      >>> latent.reconstruct(jnp.array([[0.2, 0.9]]), encode=jnp.round, decode=lambda z: z).tolist()
      [[0.0, 1.0]]
    """
    decoded = jax.lax.stop_gradient(decode(encode(batch)))
    checks.same_shapes(decoded, batch, got_name="decode returns", expected_name="the batch is")
    return decoded


def reconstructed(fn: MixFn, *, encode: Callable[[Batch], Array], decode: Callable[[Array], Batch]) -> MixFn:
    """Makes a MixFn that mixes a generative model's reconstructions of the batch.

    Args:
      fn: the MixFn to apply to the reconstructions; `combinators.erm` leaves them as they are.
      encode: batch -> latents.
      decode: latents -> batch.

    Returns:
      A MixFn.

    Raises:
      ValueError: when called, as `reconstruct` does.

    Example:
      >>> control = latent.reconstructed(jaxmix.mixup, encode=jnp.round, decode=lambda z: z)
      >>> control(jnp.array([[0.2], [0.4]]), jnp.eye(2), jax.random.key(0))[0].tolist()
      [[0.0], [0.0]]
    """

    def mixed_reconstructions(batch, labels, rng):
        return fn(reconstruct(batch, encode=encode, decode=decode), labels, rng)

    return mixed_reconstructions


def _mix_of_latents(alpha: Scalar, interpolation: str, pairing: PairingFn) -> MixFn:
    """Returns Mixup along lines or along arcs."""
    if interpolation not in ("linear", "slerp"):
        raise ValueError(f"unknown interpolation {interpolation!r}: take one of linear, slerp")
    if interpolation == "linear":
        return functools.partial(blending.mixup, alpha=alpha, pairing=pairing)

    def along_arcs(latents: Array, labels: Labels, rng: PRNGKeyArray) -> tuple[Array, Labels]:
        mix = core.draw(
            latents, rng, pairing=pairing, ratio=functools.partial(ratios.beta, alpha=alpha), mask=masks.uniform
        )
        _, targets = core.apply(mix, latents, labels)
        return _slerp(latents, layout.rows(latents, mix.partner), mix.ratio), targets

    return along_arcs


def _slerp(
    own: Float[Array, "n ..."], other: Float[Array, "n ..."], ratio: Float[Array, " n"]
) -> Float[Array, "n ..."]:
    """Returns the point at a ratio on the arc from other to own, or on the line if the arc is not unique."""
    pair = [z.reshape(len(z), -1).astype(jnp.float32) for z in (own, other)]
    norms = [jnp.linalg.norm(z, axis=1, keepdims=True) for z in pair]
    u, v = (z / jnp.maximum(norm, 1e-30) for z, norm in zip(pair, norms, strict=True))
    angle = 2 * jnp.arctan2(jnp.linalg.norm(u - v, axis=1), jnp.linalg.norm(u + v, axis=1))
    sine = jnp.sin(angle)
    one_arc = (sine > 1e-6) & (jnp.minimum(*norms)[:, 0] > 0)
    shares = [
        jnp.where(one_arc, jnp.sin(share * angle) / jnp.where(one_arc, sine, 1), share) for share in (ratio, 1 - ratio)
    ]
    mixed = shares[0][:, None] * pair[0] + shares[1][:, None] * pair[1]
    return mixed.reshape(own.shape).astype(own.dtype)
