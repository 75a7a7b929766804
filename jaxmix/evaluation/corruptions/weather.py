"""Weather and light: snow, fog, brightness."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix.evaluation.corruptions import filters, levels
from jaxmix.types import Keys


def snow(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Whitens the image and adds snowflakes, blurred along their direction of fall.

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
      >>> rng = corruptions.keys(jnp.arange(2), corruption="snow", severity=5)
      >>> jax.jit(corruptions.snow, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def snowed(image, key, mean, deviation, factor, threshold, radius, sigma, share):
        height, width, channels = image.shape
        flakes_key, angle_key = jax.random.split(key)
        flakes = mean + deviation * levels.normal(flakes_key, height, width, 1)
        flakes = filters.separable(flakes, filters.zoom(height, factor=factor), filters.zoom(width, factor=factor))
        flakes = jnp.where(flakes < threshold, 0.0, jnp.minimum(flakes, 1.0))
        angle = jax.random.uniform(angle_key, (), jnp.float32, -3 * jnp.pi / 4, -jnp.pi / 4)
        flakes = filters.motion(flakes, angle, radius=radius, sigma=sigma)
        luma = np.array([0.299, 0.587, 0.114] if channels == 3 else [1.0], np.float32)
        gray = jnp.sum(luma[None, None] * image, -1, keepdims=True)
        whitened = share * image + (1 - share) * jnp.maximum(image, 1.5 * gray + 0.5)
        return whitened + flakes + jnp.rot90(flakes, 2)

    return levels.each(snowed, "snow", images, rng, severity)


def fog(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Adds a plasma fractal and scales the sum back to the range of the image.

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
      >>> rng = corruptions.keys(jnp.arange(2), corruption="fog", severity=5)
      >>> jax.jit(corruptions.fog, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def fogged(image, key, strength, decay):
        height, width, _ = image.shape
        size = 1 << (max(height, width, 32) - 1).bit_length()
        haze = filters.fractal(key, size=size, decay=decay)[:height, :width, None]
        return (image + strength * haze) * image.max() / (image.max() + strength)

    return levels.each(fogged, "fog", images, rng, severity)


def brightness(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Raises the value in HSV, a pixel's largest channel, and keeps hue and saturation.

    Args:
      images: in [0, 1], [n, h, w, c].
      rng: ignored.
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> rng = corruptions.keys(jnp.arange(1), corruption="brightness", severity=5)
      >>> images = jnp.array([0.0, 0.1, 0.2]).reshape(1, 1, 1, 3)
      >>> print(corruptions.brightness(images, rng, severity=5).ravel())
      [0.   0.25 0.5 ]
    """

    def brightened(image, _, summand):
        value = image.max(-1, keepdims=True)
        brighter = jnp.minimum(value + summand, 1)
        # Black has neither hue nor saturation, and turns gray.
        return jnp.where(value > 0, image * (brighter / jnp.where(value > 0, value, 1)), brighter)

    return levels.each(brightened, "brightness", images, rng, severity)
