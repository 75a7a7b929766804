"""Baselines for the methods: the same work, written by hand without a library."""

import jax
import jax.numpy as jnp
import numpy as np

Pair = tuple[jax.Array, jax.Array]


def copy(images: jax.Array, labels: jax.Array, rng: jax.Array) -> Pair:
    """Moves a batch once."""
    del rng
    return jnp.copy(images), jnp.copy(labels)


def mixup(images: jax.Array, labels: jax.Array, rng: jax.Array) -> Pair:
    """Mixup of floats or uint8 pixels, with a ratio per sample, at alpha = 1."""
    partner_rng, ratio_rng = jax.random.split(rng)
    partner = jax.random.permutation(partner_rng, len(images))
    share = jax.random.uniform(ratio_rng, (len(images), 1))
    weight = share[:, :, None, None]
    mixed = weight * images + (1 - weight) * images[partner]
    if images.dtype == jnp.uint8:
        mixed = jnp.round(mixed)
    return mixed.astype(images.dtype), share * labels + (1 - share) * labels[partner]


def cutmix(images: jax.Array, labels: jax.Array, rng: jax.Array) -> Pair:
    """CutMix of square images, with a box per sample."""
    n, size = images.shape[:2]
    partner_rng, ratio_rng, y_rng, x_rng = jax.random.split(rng, 4)
    partner = jax.random.permutation(partner_rng, n)
    half = (size * jnp.sqrt(1 - jax.random.uniform(ratio_rng, (n, 1)))).astype(jnp.int32) // 2
    places = jnp.arange(size)[None]
    rows, columns = (
        (places >= centre - half) & (places < centre + half)
        for centre in (jax.random.randint(key, (n, 1), 0, size) for key in (y_rng, x_rng))
    )
    inside = rows[:, :, None] & columns[:, None, :]
    share = 1 - inside.mean((1, 2))[:, None]
    return jnp.where(inside[..., None], images[partner], images), share * labels + (1 - share) * labels[partner]


def cutmix_by_slices(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, out: np.ndarray) -> np.ndarray:
    """CutMix in numpy, into an array of the images' shape; returns the labels."""
    n, size = images.shape[:2]
    partner, half = rng.permutation(n), (size * np.sqrt(1 - rng.uniform(size=n))).astype(int) // 2
    centres = rng.integers(0, size, (n, 2))
    low, high = (np.clip(centres + sign * half[:, None], 0, size) for sign in (-1, 1))
    np.copyto(out, images)
    for i in range(n):
        place = slice(low[i, 0], high[i, 0]), slice(low[i, 1], high[i, 1])
        out[i][place] = images[partner[i]][place]
    share = 1 - np.prod(high - low, axis=1, keepdims=True) / size**2
    return share * labels + (1 - share) * labels[partner]
