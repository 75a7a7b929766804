"""Filters of single images [h, w, c], from which the corruptions are composed.

A linear filter along an axis is a matrix [h, h] that includes the treatment of edges. Numpy makes
it at trace time, so that any filter is one small matrix product in the program.
"""

import jax
from jax import Array
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Float, PRNGKeyArray
import numpy as np

Image = Float[Array, "h w c"]
Matrix = Float[np.ndarray, "length length"]
Map = Float[Array, "h w"]


def separable(image: Image, rows: Float[np.ndarray, "h h"], columns: Float[np.ndarray, "w w"]) -> Image:
    """Applies one matrix to the rows and one to the columns.

    Args:
      image: [h, w, c].
      rows: weights of input rows for every output row, [h, h].
      columns: weights of input columns for every output column, [w, w].

    Returns:
      The filtered image, [h, w, c].

    Example:
      >>> filters.separable(jnp.ones((4, 6, 3)), filters.box(4, size=2), filters.box(6, size=2)).shape
      (4, 6, 3)
    """
    return jnp.einsum("ph,qw,hwc->pqc", rows, columns, image, precision="highest")


def gaussian(length: int, *, sigma: float, edge: str, truncate: float) -> Matrix:
    """Returns the matrix of a Gaussian blur, as scipy.ndimage defines it.

    Args:
      length: number of pixels along the axis.
      sigma: standard deviation in pixels; 0 gives the identity.
      edge: how to extend the image, a mode of numpy.pad: `"edge"` is scipy's "nearest", and
        `"symmetric"` is scipy's "reflect".
      truncate: number of standard deviations after which the kernel ends.

    Returns:
      Weights [length, length], whose rows sum to 1.

    Example:
      >>> filters.gaussian(8, sigma=1.0, edge="edge", truncate=4.0).sum(1).round(4).tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    padded = np.pad(np.eye(length), ((radius, radius), (0, 0)), edge)  # type: ignore[call-overload]
    blurred = sum(weight * padded[k : k + length] for k, weight in enumerate(kernel / kernel.sum()))
    return np.asarray(blurred, np.float32)


def box(length: int, *, size: int) -> Matrix:
    """Returns the matrix that resizes an axis to fewer pixels and back, as Pillow's BOX filter does.

    Args:
      length: number of pixels along the axis.
      size: number of pixels after shrinking, at most length.

    Returns:
      Weights [length, length], whose rows sum to 1.

    Example:
      >>> filters.box(4, size=2).tolist()[0]
      [0.5, 0.5, 0.0, 0.0]
    """

    def resize(source: int, target: int):
        scale = source / target
        width = max(scale, 1.0)
        centres = (np.arange(target) + 0.5) * scale
        distances = (np.arange(source)[None] - centres[:, None] + 0.5) / width
        inside = (distances > -0.5) & (distances <= 0.5)
        return inside / inside.sum(1, keepdims=True)

    return (resize(size, length) @ resize(length, size)).astype(np.float32)


def zoom(length: int, *, factor: float) -> Matrix:
    """Returns the matrix that enlarges the middle of an axis to its full length, by linear interpolation.

    Args:
      length: number of pixels along the axis.
      factor: factor of enlargement, at least 1.

    Returns:
      Weights [length, length], whose rows sum to 1.

    Example:
      >>> filters.zoom(4, factor=2.0).round(2).tolist()[0]
      [0.0, 1.0, 0.0, 0.0]
    """
    crop = int(np.ceil(length / factor))
    enlarged = round(crop * factor)
    first, trimmed = (length - crop) // 2, (enlarged - length) // 2
    places = first + (trimmed + np.arange(length)) * (crop - 1) / max(enlarged - 1, 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length)[None])).astype(np.float32)


def disk(image: Image, *, radius: float, sigma: float) -> Image:
    """Blurs by a disk whose rim is smoothed by a Gaussian kernel of 3 x 3 pixels.

    The image is mirrored at its edges, without repeating edge pixels.

    Args:
      image: [h, w, c].
      radius: radius of the disk in pixels, at most 8.
      sigma: standard deviation of the smoothing, in pixels.

    Returns:
      The blurred image, [h, w, c].

    Example:
      >>> filters.disk(jnp.ones((8, 8, 3)), radius=1.0, sigma=0.5).shape
      (8, 8, 3)
    """
    half = int(radius) + 1
    offsets = np.arange(-half, half + 1)
    aliased = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).astype(np.float32)
    weight = np.exp(-0.5 / sigma**2)
    smooth = np.eye(2 * half + 1) + weight * (np.eye(2 * half + 1, k=1) + np.eye(2 * half + 1, k=-1))
    kernel = smooth @ aliased @ smooth
    padded = jnp.pad(image, ((half, half), (half, half), (0, 0)), mode="reflect")
    kernel = jnp.asarray(kernel / kernel.sum(), image.dtype)
    channels = jnp.moveaxis(padded, -1, 0)[:, None]
    blurred = jax.lax.conv_general_dilated(channels, kernel[None, None], (1, 1), "VALID", precision="highest")
    return jnp.moveaxis(blurred[:, 0], 0, -1)


def motion(image: Image, angle: Float[Array, ""], *, radius: int, sigma: float) -> Image:
    """Blurs along a ray by the positive half of a Gaussian kernel, like ImageMagick's motion blur.

    Taps lie at the whole pixels nearest to the ray. Edge pixels are repeated.

    Args:
      image: [h, w, c].
      angle: angle of the ray along which a pixel gathers, in radians, from right to down.
      radius: the kernel has 2 radius + 1 taps, at distances from 0 to 2 radius.
      sigma: standard deviation in pixels.

    Returns:
      The blurred image, [h, w, c].

    Example:
      >>> filters.motion(jnp.ones((8, 8, 3)), jnp.float32(0.5), radius=3, sigma=1.0).shape
      (8, 8, 3)
    """
    height, width, _ = image.shape
    distance = np.arange(2 * radius + 1, dtype=np.float32)
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def taps(component: Array, length: int):
        shift = jnp.ceil(distance * component - 0.5).astype(jnp.int32)  # ImageMagick rounds halves down
        return jnp.clip(shift[:, None] + jnp.arange(length, dtype=jnp.int32)[None], 0, length - 1)

    rows, columns = taps(jnp.sin(angle), height), taps(jnp.cos(angle), width)
    return jnp.sum(kernel[:, None, None, None] * image[rows[:, :, None], columns[:, None, :]], axis=0)


def warp(image: Image, rows: Map, columns: Map, *, edge: str) -> Image:
    """Reads an image at given places, by linear interpolation.

    Args:
      image: [h, w, c].
      rows: the row from which to read each pixel, [h, w].
      columns: the column from which to read each pixel, [h, w].
      edge: how to extend the image, a mode of scipy.ndimage: `"mirror"`, `"reflect"` or
        `"nearest"`.

    Returns:
      The warped image, [h, w, c].

    Example:
      >>> image, ones = jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((1, 4))
      >>> filters.warp(image, 0 * ones, 1.5 * ones, edge="mirror").ravel().tolist()
      [1.5, 1.5, 1.5, 1.5]
    """
    return jax.vmap(lambda channel: map_coordinates(channel, [rows, columns], 1, edge), -1, -1)(image)


def fractal(rng: PRNGKeyArray, *, size: int, decay: float) -> Float[Array, "size size"]:
    """Draws a plasma fractal by the diamond-square algorithm on a torus.

    Args:
      rng: a JAX key.
      size: side of the map, a power of two.
      decay: factor by which the root of the noise's range shrinks at each halving.

    Returns:
      A map [size, size] with minimum 0 and maximum 1.

    Example:
      >>> filters.fractal(jax.random.key(0), size=8, decay=2.0).max().item()
      1.0
    """
    corners, wibble = jnp.zeros((1, 1), jnp.float32), 1.0
    drawn = jax.random.uniform(rng, (size**2 - 1,), jnp.float32, -1, 1)  # at once, since draws compile slowly
    while (length := len(corners)) < size:
        noise = wibble**2 * drawn[length**2 - 1 : 4 * length**2 - 1].reshape(3, length, length)
        pairs = corners + jnp.roll(corners, -1, 0)
        centres = (pairs + jnp.roll(pairs, -1, 1)) / 4 + noise[0]
        across = corners + jnp.roll(corners, -1, 1) + centres + jnp.roll(centres, 1, 0)
        down = corners + jnp.roll(corners, -1, 0) + centres + jnp.roll(centres, 1, 1)
        even = jnp.stack([corners, across / 4 + noise[1]], axis=-1)
        odd = jnp.stack([down / 4 + noise[2], centres], axis=-1)
        corners = jnp.stack([even, odd], axis=1).reshape(2 * length, 2 * length)
        corners = jax.lax.optimization_barrier(corners)  # else XLA fuses all levels, and compiles twice as long
        wibble /= decay
    return (corners - corners.min()) / (corners.max() - corners.min())
