"""Parameters, argument checks and draws that all corruptions share."""

from collections.abc import Callable
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.types import Keys

Images = Float[Array, "n h w c"]

LEVELS: dict[str, tuple[tuple, ...]] = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),  # radius, sigma of the rim
    "glass_blur": ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)),  # sigma, passes
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),  # radius, sigma
    "zoom_blur": ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,)),
    "snow": (  # mean, deviation, zoom, threshold, radius, sigma, share of the image
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),  # strength, decay
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    # Shares of the side: of displacements, of their smoothing, of the corners' shifts.
    "elastic_transform": (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),  # factor, summand
}
"""Parameters at severities 1 to 5, as in CIFAR-10-C. Those of ImageNet-C differ."""


def parameters(name: str, images, severity: int) -> tuple:
    """Checks a corruption's arguments and returns its parameters."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images have dtype {images.dtype}: pass floats in [0, 1], such as uint8 images / 255")
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"images have shape {images.shape}: pass [n, h, w, 1] or [n, h, w, 3]")
    if severity not in range(1, 6):
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity}")
    return LEVELS[name][severity - 1]


def each(corrupt: Callable[..., Array], name: str, images: Array, rng: Keys, severity: int) -> Array:
    """Maps corrupt(image, key, *parameters) over the images in float32 and clips the results to [0, 1]."""
    level = parameters(name, images, severity)
    checks.key_per_sample(rng, len(images))
    corrupted = jax.vmap(lambda image, key: corrupt(image, key, *level))(images.astype(jnp.float32), rng)
    return jnp.clip(corrupted, 0, 1).astype(images.dtype)


def normal(rng: PRNGKeyArray, *shape: int) -> Array:
    """Draws normal numbers in one flat array: XLA compiles a draw along several axes 4 to 15 times slower on CPUs."""
    return jax.random.normal(rng, (math.prod(shape),), jnp.float32).reshape(shape)


def uniform(rng: PRNGKeyArray, *shape: int) -> Array:
    """Draws uniform numbers from [0, 1), flat for the same reason."""
    return jax.random.uniform(rng, (math.prod(shape),), jnp.float32).reshape(shape)
