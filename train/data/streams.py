"""Decodes and crops images with Pillow: all at once, or batch by batch with grain if memory cannot hold them."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import dataclasses
import functools
import math
from typing import Any, NamedTuple

from jaxtyping import Int, UInt8
import numpy as np

from train import config as config_lib
from train.data import pictures, sources
from train.errors import UsageError

MOST_HELD = 2**31  # bytes of all images of a data set, on every device


@dataclasses.dataclass(frozen=True)
class Images:
    """Encoded images that are decoded and cropped to squares of one size on access.

    Attributes:
      items: items with an image, a label and, if there is one, a name.
      num_classes: number of classes; labels are below it.
      size: side of the squares, or the height and width that all images have and keep.
      random_crop: whether to crop at random, for training.
      seed: seed of random crops.
      channels: 1 or 3.
      central: share of the shorter side that a central crop keeps; 7/8 gives the usual 224 of 256.
    """

    items: Sequence[dict[str, Any]]
    num_classes: int
    size: int | tuple[int, int]
    random_crop: bool
    seed: int
    channels: int = 3
    central: float = 7 / 8

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return height, width, self.channels

    def read(self, index: int, *, epoch: int) -> tuple[UInt8[np.ndarray, "h w c"], np.int32, np.int32]:
        """An image, its label and its place; the crop is drawn from seed, epoch and place alone."""
        from PIL import Image

        item = self.items[int(index)]
        label = np.int32(item["label"])
        name = item.get("name", f"image {index}")
        if not 0 <= label < self.num_classes:
            raise UsageError(f"{name} has the label {label}, not one from 0 to {self.num_classes - 1}: take other data")
        image = pictures.decoded(item["image"], name=name, channels=self.channels)
        width, height = image.size
        if isinstance(self.size, tuple):
            if (height, width) != self.size:
                raise UsageError(
                    f"images differ in size, {name} has {height} x {width} pixels and the first "
                    f"{self.size[0]} x {self.size[1]}: give data.image_size, the size to cut them to"
                )
            return np.asarray(image).reshape(self.shape), label, np.int32(index)
        if self.random_crop:
            box = random_box(width, height, np.random.default_rng((self.seed, epoch, int(index))))
        else:
            box = central_box(width, height, part=self.central)
        square = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(square).reshape(self.shape), label, np.int32(index)

    def batches(self, order: Int[np.ndarray, "steps n"], *, epoch: int, num_threads: int) -> Iterator[tuple]:
        """Batches of (images, labels, places), in the order given, decoded ahead by threads."""
        import grain

        samples = grain.MapDataset.source(order.ravel()).map(lambda index: self.read(index, epoch=epoch))
        reading = grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=max(4 * num_threads, 2 * order.shape[1])
        )
        return iter(samples.to_iter_dataset(reading).batch(order.shape[1]))


class Streams(NamedTuple):
    """A training and a test split, by name, that come with each batch."""

    splits: dict[str, Images]
    class_names: tuple[str, ...] = ()


def check(config: config_lib.Data) -> None:
    """Raises a UsageError if a configuration needs all images in memory."""
    if config.num_train or config.num_validation:
        raise UsageError(f"data.num_train and num_validation are for data sets held in memory, not {config.name}")
    if not config.mean or not config.std:
        raise UsageError(f"data.mean and data.std: {config.name} is not measured: give them")


def from_tfds(config: config_lib.Data, *, seed: int) -> Streams:
    """ImageNet; only training crops are random, where configured."""
    check(config)
    if config.image_size < 0:
        raise UsageError(f"data.image_size must be at least 1, or 0 for 224, got {config.image_size}")
    builder = sources.prepared(config)
    image = functools.partial(
        Images,
        num_classes=builder.info.features["label"].num_classes,
        size=config.image_size or 224,
        random_crop=False,
        seed=seed,
    )
    test = sources.STREAMED[config.name]
    images = {name: image(encoded(builder, split)) for name, split in (("train", "train"), ("test", test))}
    return streamed(config, images, tuple(builder.info.features["label"].names))


def encoded(builder: Any, split: str) -> Sequence[dict[str, Any]]:
    """The images of a prepared tfds data set, as they lie in its files."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})


def streamed(config: config_lib.Data, images: dict[str, Images], class_names: tuple[str, ...]) -> Streams:
    """To be read with each batch; only training crops are random, where configured."""
    random_crop = "random_resized_crop" in config.augmentation.split(",")
    train = dataclasses.replace(images["train"], random_crop=random_crop)
    return Streams(images | {"train": train}, class_names)


def held_or_streamed(
    config: config_lib.Data, images: dict[str, Images], class_names: tuple[str, ...]
) -> sources.Raw | Streams:
    """All of them decoded in memory, unless they are too many."""
    if sum(len(split) * math.prod(split.shape) for split in images.values()) > MOST_HELD:
        if isinstance(images["train"].size, tuple):
            raise UsageError(f"{config.name} has more than 2 GiB of images, which are streamed: give data.image_size")
        check(config)
        return streamed(config, images, class_names)
    splits = {name: _decoded(split, config.num_threads) for name, split in images.items()}
    return sources.Raw(splits, images["train"].num_classes, class_names)


def _decoded(images: Images, num_threads: int) -> sources.Arrays:
    pixels = np.empty((len(images), *images.shape), np.uint8)
    labels = np.empty(len(images), np.int32)
    with futures.ThreadPoolExecutor(max(1, num_threads)) as pool:
        for image, label, place in pool.map(functools.partial(images.read, epoch=0), range(len(images))):
            pixels[place], labels[place] = image, label
    pixels.flags.writeable = labels.flags.writeable = False  # as of tfds
    return pixels, labels


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3 (Szegedy et al., 2015), if one of ten fits."""
    for _ in range(10):
        area, aspect = width * height * rng.uniform(0.08, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return central_box(width, height)


def central_box(width: int, height: int, *, part: float = 7 / 8) -> tuple[float, float, float, float]:
    """The central square of a part of the shorter side."""
    side = min(width, height) * part
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
