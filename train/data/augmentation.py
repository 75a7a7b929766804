"""Augments training images on the device, with one key per sample."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Key

from train import config as config_lib
from train.errors import UsageError

Augment = Callable[[Array, Array], Array]  # images [n, h, w, c] and keys [n] -> images


def flip(image: Float[Array, "h w c"], rng: Key[Array, ""]) -> Float[Array, "h w c"]:
    """Mirrors the image with probability 1/2."""
    return jnp.where(jax.random.bernoulli(rng), image[:, ::-1], image)


def pad_crop(image: Float[Array, "h w c"], rng: Key[Array, ""]) -> Float[Array, "h w c"]:
    """Shifts the image by up to 4 pixels in each direction, and fills in black."""
    padded = jnp.pad(image, ((4, 4), (4, 4), (0, 0)))
    y, x = jax.random.randint(rng, (2,), 0, 9)
    return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


def random_resized_crop(image: Float[Array, "h w c"], rng: Key[Array, ""]) -> Float[Array, "h w c"]:
    """Crops a box of 25 to 100 % of the area with an aspect ratio of 3/4 to 4/3, and resizes it to the full size."""
    area_rng, aspect_rng, place_rng = jax.random.split(rng, 3)
    area = jax.random.uniform(area_rng, (), minval=0.25, maxval=1.0)
    aspect = jnp.exp(jax.random.uniform(aspect_rng, (), minval=jnp.log(3 / 4), maxval=jnp.log(4 / 3)))
    shape = jnp.array(image.shape[:2], jnp.float32)
    size = jnp.minimum(shape * jnp.sqrt(area * jnp.stack([1 / aspect, aspect])), shape)
    start = jax.random.uniform(place_rng, (2,)) * (shape - size)
    scale = shape / size
    return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -start * scale, "linear", antialias=False)


def build(names: str, shape: tuple[int, ...], *, cropped: bool = False) -> Augment:
    """Composes augmentations by their names.

    Args:
      names: pad_crop, flip and random_resized_crop, or some of them, separated by commas; "" for none.
      shape: shape of one sample; only images can be augmented.
      cropped: whether decoding the images already includes random_resized_crop.

    Returns:
      A function of images [n, h, w, c] in [0, 1] and one key per image.
    """
    known = {"pad_crop": pad_crop, "flip": flip, "random_resized_crop": random_resized_crop}
    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        config_lib.known("augmentation", name, list(known))
    if chosen and len(shape) != 3:
        raise UsageError(f"data.augmentation={names} is for images, not samples of shape {shape}: leave it empty")
    if cropped:
        chosen = [name for name in chosen if name != "random_resized_crop"]

    def augment(images: Array, rngs: Array) -> Array:
        for place, name in enumerate(chosen):
            own = jax.vmap(jax.random.fold_in, (0, None))(rngs, place)
            images = jax.vmap(known[name])(images, own)
        return images

    return augment
