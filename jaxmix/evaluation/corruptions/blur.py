"""Blurs: defocus, frosted glass, motion, zoom and gaussian."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix.evaluation.corruptions import filters, levels
from jaxmix.types import Keys


def defocus_blur(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Blurs by a disk with a smoothed rim, like a lens out of focus.

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="defocus_blur", severity=4)
      >>> images = jnp.array([0.0, 1.0, 0.0, 0.0, 0.0]).reshape(1, 5, 1, 1)
      >>> print(corruptions.defocus_blur(images, rng, severity=4).ravel().round(3))
      [0.4 0.6 0.2 0.  0. ]
    """
    return levels.each(
        lambda image, _, radius, sigma: filters.disk(image, radius=radius, sigma=sigma),
        "defocus_blur",
        images,
        rng,
        severity,
    )


def glass_blur(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Blurs, lets pixels copy a neighbour, and blurs again, like frosted glass.

    A pixel copies itself or its neighbour above, to the left, or above to the left, with equal
    probability. CIFAR-10-C's generator means to swap the two pixels. But its views overwrite each
    other, so only one pixel changes. It goes from the last pixel to the first, so every pixel
    reads an unchanged value. Hence one gather computes a pass. The first two rows and columns do
    not change.

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
      >>> rng = corruptions.keys(jnp.arange(2), corruption="glass_blur", severity=5)
      >>> jax.jit(corruptions.glass_blur, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def frosted(image, key, sigma, passes):
        height, width, _ = image.shape
        rows, columns = jnp.mgrid[:height, :width]
        moves = (rows >= 2) & (columns >= 2)
        blur = [filters.gaussian(side, sigma=sigma, edge="edge", truncate=4.0) for side in (height, width)]
        image = filters.separable(image, *blur)
        shifts = jnp.where(moves[None, None] & (levels.uniform(key, passes, 2, height, width) < 0.5), 1, 0)
        for up, left in shifts:
            image = image[rows - up, columns - left]
        return filters.separable(image, *blur)

    return levels.each(frosted, "glass_blur", images, rng, severity)


def motion_blur(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Blurs along a ray within 45 degrees of the rows, like a moving camera.

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
      >>> rng = corruptions.keys(jnp.arange(2), corruption="motion_blur", severity=5)
      >>> jax.jit(corruptions.motion_blur, static_argnames="severity")(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def moved(image, key, radius, sigma):
        angle = jax.random.uniform(key, (), jnp.float32, -jnp.pi / 4, jnp.pi / 4)
        return filters.motion(image, angle, radius=radius, sigma=sigma)

    return levels.each(moved, "motion_blur", images, rng, severity)


def zoom_blur(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Averages the image and its enlargements about the middle by factors of 1, 1.01, 1.02, ....

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="zoom_blur", severity=1)
      >>> images = jnp.array([0.0, 1.0, 0.0, 0.0]).reshape(1, 2, 2, 1)
      >>> print(corruptions.zoom_blur(images, rng, severity=1).ravel().round(3))
      [0. 1. 0. 0.]
    """

    def zoomed(image, _, end):
        height, width, _ = image.shape
        factors = np.arange(1, end, 0.01)  # as in CIFAR-10-C, where rounding adds the end at severities 1 and 2
        rows = np.stack([filters.zoom(height, factor=factor) for factor in factors])
        columns = np.stack([filters.zoom(width, factor=factor) for factor in factors])
        total = jnp.einsum("zph,zqw,hwc->pqc", rows, columns, image, precision="highest")
        return (image + total) / (len(factors) + 1)

    return levels.each(zoomed, "zoom_blur", images, rng, severity)


def gaussian_blur(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Blurs by a Gaussian kernel, with edge pixels repeated.

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="gaussian_blur", severity=1)
      >>> images = jnp.array([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
      >>> print(corruptions.gaussian_blur(images, rng, severity=1).ravel().round(3))
      [0.04  0.919 0.04 ]
    """

    def blurred(image, _, sigma):
        rows, columns = (filters.gaussian(n, sigma=sigma, edge="edge", truncate=4.0) for n in image.shape[:2])
        return filters.separable(image, rows, columns)

    return levels.each(blurred, "gaussian_blur", images, rng, severity)
