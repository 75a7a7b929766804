"""Digital corruptions: contrast, elastic transforms, pixelation, JPEG compression and saturation."""

import io

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray
import numpy as np

from jaxmix.evaluation.corruptions import filters, levels
from jaxmix.types import Keys


def contrast(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Moves values towards their channel's mean over the image.

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="contrast", severity=2)
      >>> images = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
      >>> print(corruptions.contrast(images, rng, severity=2).ravel())
      [0.25 0.75]
    """

    def flattened(image, _, factor):
        mean = image.mean((0, 1), keepdims=True)
        return factor * (image - mean) + mean

    return levels.each(flattened, "contrast", images, rng, severity)


def _shaken(rows: filters.Map, columns: filters.Map, rng: PRNGKeyArray, most: float) -> tuple[Array, Array]:
    """Draws an affine map that moves three corners of a square by at most `most`, and returns the places to read."""
    height, width = rows.shape
    half = max(min(height, width) // 3, 1)
    signs = jnp.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], jnp.float32)  # (row, column): two edges of a square
    corner = half * signs + jnp.array([[height // 2, width // 2]], jnp.float32)
    moved = corner + most * (2 * levels.uniform(rng, 3, 2) - 1)
    edge, other = moved[0] - moved[1], moved[1] - moved[2]
    down, right = rows - moved[1, 0], columns - moved[1, 1]
    scale = 2 * half / (edge[0] * other[1] - edge[1] * other[0])  # Cramer's rule for the inverse map
    return (
        corner[1, 0] + scale * (other[1] * down - other[0] * right),
        corner[1, 1] + scale * (edge[0] * right - edge[1] * down),
    )


def elastic_transform(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Applies a random affine map, then moves every pixel by a smooth random field.

    The affine map moves three corners of a square about the middle at random.

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
      >>> rng = corruptions.keys(jnp.arange(2), corruption="elastic_transform", severity=5)
      >>> elastic = jax.jit(corruptions.elastic_transform, static_argnames="severity")
      >>> elastic(jnp.ones((2, 8, 8, 3)), rng, severity=5).shape
      (2, 8, 8, 3)
    """

    def deformed(image, key, alpha, sigma, affine):
        height, width, _ = image.shape
        side = min(height, width)
        affine_key, field_key = jax.random.split(key)
        rows, columns = jnp.mgrid[:height, :width].astype(jnp.float32)
        image = filters.warp(image, *_shaken(rows, columns, affine_key, affine * side), edge="mirror")
        blur = [filters.gaussian(n, sigma=sigma * side, edge="symmetric", truncate=3.0) for n in (height, width)]
        noise = 2 * levels.uniform(field_key, height, width, 2) - 1
        down, right = jnp.moveaxis(alpha * side * filters.separable(noise, *blur), -1, 0)
        return filters.warp(image, rows + down, columns + right, edge="reflect")

    return levels.each(deformed, "elastic_transform", images, rng, severity)


def pixelate(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Shrinks the image and enlarges it again with Pillow's BOX filter.

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="pixelate", severity=5)
      >>> images = jnp.array([0.0, 1.0, 0.0, 1.0]).reshape(1, 2, 2, 1)
      >>> print(corruptions.pixelate(images, rng, severity=5).ravel().round(3))
      [0.5 0.5 0.5 0.5]
    """

    def coarsened(image, _, share):
        return filters.separable(
            image, *(filters.box(side, size=max(int(side * share), 1)) for side in image.shape[:2])
        )

    return levels.each(coarsened, "pixelate", images, rng, severity)


def jpeg_compression(images: Float[np.ndarray, "n h w c"], rng: Keys, *, severity: int) -> Float[np.ndarray, "n h w c"]:
    """Rounds to 8 bits and compresses with Pillow's JPEG, on the host: do not jit it.

    Args:
      images: numpy arrays in [0, 1], [n, h, w, c].
      rng: ignored.
      severity: 1 to 5.

    Returns:
      The corrupted images, shaped and typed like the inputs.

    Raises:
      TypeError: if the images are not floats.
      ValueError: if c is not 1 or 3, or the severity is not 1 to 5.

    Example:
      >>> import numpy as np
      >>> rng = corruptions.keys(jnp.arange(1), corruption="jpeg_compression", severity=1)
      >>> corruptions.jpeg_compression(np.ones((1, 8, 8, 3)), rng, severity=1).min().item()
      1.0
    """
    from PIL import Image

    (quality,) = levels.parameters("jpeg_compression", images, severity)
    del rng
    corrupted = np.empty_like(images)
    for pixels, out in zip(np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8), corrupted, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
        out[...] = np.asarray(Image.open(file)).reshape(pixels.shape) / 255
    return corrupted


def saturate(images: levels.Images, rng: Keys, *, severity: int) -> levels.Images:
    """Maps the saturation in HSV linearly, and keeps hue and value.

    A gray pixel of a colour image has the hue of red, so severities 4 and 5 redden it. Images with
    one channel do not change.

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
      >>> rng = corruptions.keys(jnp.arange(1), corruption="saturate", severity=1)
      >>> images = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
      >>> print(corruptions.saturate(images, rng, severity=1).ravel())
      [0.7  0.85 1.  ]
    """

    def saturated(image, _, factor, summand):
        if image.shape[-1] == 1:
            return image
        value = image.max(-1, keepdims=True)
        spread = value - image.min(-1, keepdims=True)
        saturation = spread / jnp.where(value > 0, value, 1)
        red = jnp.array([0.0, 1.0, 1.0])[None, None]
        missing = jnp.where(spread > 0, (value - image) / jnp.where(spread > 0, spread, 1), red)
        return value * (1 - missing * jnp.clip(factor * saturation + summand, 0, 1))

    return levels.each(saturated, "saturate", images, rng, severity)
