"""Noise: gaussian, shot, impulse and speckle."""

import jax
import jax.numpy as jnp

from jaxmix.evaluation.corruptions import levels
from jaxmix.types import Keys


def gaussian_noise(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Adds Gaussian noise with the same standard deviation everywhere.

    Args:
      images: in [0, 1], [n, h, w, c].
      rng: one key per image, [n].
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> rng = corruptions.keys(jnp.arange(2), corruption="gaussian_noise", severity=5)
      >>> jax.jit(corruptions.gaussian_noise, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """
    return levels.each(
        lambda image, key, sigma: image + sigma * levels.normal(key, *image.shape),
        "gaussian_noise",
        images,
        rng,
        severity,
    )


def shot_noise(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Replaces values by photon counts: Poisson numbers with mean rate times value, divided by the rate.

    Args:
      images: in [0, 1], [n, h, w, c].
      rng: one key per image, [n].
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> rng = corruptions.keys(jnp.arange(2), corruption="shot_noise", severity=5)
      >>> jax.jit(corruptions.shot_noise, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def counted(image, key, rate):
        return jax.random.poisson(key, rate * image.ravel()).astype(jnp.float32).reshape(image.shape) / rate

    return levels.each(counted, "shot_noise", images, rng, severity)


def impulse_noise(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Sets a random share of the values, in every channel independently, to 0 or 1 with equal probability.

    Args:
      images: in [0, 1], [n, h, w, c].
      rng: one key per image, [n].
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> rng = corruptions.keys(jnp.arange(2), corruption="impulse_noise", severity=5)
      >>> jax.jit(corruptions.impulse_noise, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def sprinkled(image, key, amount):
        draw = levels.uniform(key, *image.shape)
        return jnp.where(draw < amount / 2, 0.0, jnp.where(draw < amount, 1.0, image))

    return levels.each(sprinkled, "impulse_noise", images, rng, severity)


def speckle_noise(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Multiplies values by Gaussian noise with mean 1, so that bright pixels get more noise.

    Args:
      images: in [0, 1], [n, h, w, c].
      rng: one key per image, [n].
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> rng = corruptions.keys(jnp.arange(2), corruption="speckle_noise", severity=5)
      >>> jax.jit(corruptions.speckle_noise, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """
    return levels.each(
        lambda image, key, sigma: image + sigma * image * levels.normal(key, *image.shape),
        "speckle_noise",
        images,
        rng,
        severity,
    )
