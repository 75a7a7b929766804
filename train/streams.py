"""Images too many to hold: read by tfds, decoded and cropped by Pillow, batched by grain, on the host."""

from collections.abc import Iterator, Sequence
import dataclasses
import io
import math
from typing import Any

from jaxtyping import Int, UInt8
import numpy as np

from train import config as config_lib
from train import sources


@dataclasses.dataclass(frozen=True)
class Images:
    """Encoded images that become squares of one size when they are read."""

    items: Sequence[dict[str, Any]]
    num_classes: int
    size: int
    random_crop: bool
    seed: int

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.size, self.size, 3

    def read(self, index: int, *, epoch: int) -> tuple[UInt8[np.ndarray, "h w 3"], np.int32, np.int32]:
        """An image, its label and its place; the crop is drawn from seed, epoch and place alone."""
        from PIL import Image

        item = self.items[int(index)]
        label = np.int32(item["label"])
        if not 0 <= label < self.num_classes:
            raise ValueError(f"sample {index} has the label {label}, not one from 0 to {self.num_classes - 1}")
        image = Image.open(io.BytesIO(item["image"])).convert("RGB")
        if self.random_crop:
            box = random_box(*image.size, np.random.default_rng((self.seed, epoch, int(index))))
        else:
            box = central_box(*image.size)
        square = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(square), label, np.int32(index)

    def batches(self, order: Int[np.ndarray, "steps n"], *, epoch: int, num_threads: int) -> Iterator[tuple]:
        """Batches of (images, labels, places), in the order given, decoded ahead by threads."""
        import grain

        samples = grain.MapDataset.source(order.ravel()).map(lambda index: self.read(index, epoch=epoch))
        reading = grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=max(4 * num_threads, 2 * order.shape[1])
        )
        return iter(samples.to_iter_dataset(reading).batch(order.shape[1]))


def from_tfds(config: config_lib.Data, *, seed: int) -> dict[str, Images]:
    """The training and the test split of a prepared data set; only training crops are random, where configured."""
    import tensorflow_datasets as tfds

    builder = sources.prepared(config)
    random_crop = "random_resized_crop" in config.augmentation.split(",")

    def split(name: str, random_crop: bool) -> Images:
        items = builder.as_data_source(name, decoders={"image": tfds.decode.SkipDecoding()})
        return Images(items, builder.info.features["label"].num_classes, config.image_size, random_crop, seed)

    return {"train": split("train", random_crop), "test": split(sources.STREAMED[config.name], False)}


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3 (Szegedy et al., 2015), if one of ten fits."""
    for _ in range(10):
        area, aspect = width * height * rng.uniform(0.08, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return central_box(width, height)


def central_box(width: int, height: int) -> tuple[float, float, float, float]:
    """The central square of 7/8 of the shorter side: the usual 224 of 256."""
    side = min(width, height) * 7 / 8
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
