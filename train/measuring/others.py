"""Loads other images to evaluate a run on: other data sets, noise, and CIFAR-C as released."""

from collections.abc import Iterator, Sequence
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jaxmix.evaluation import corruptions
from train import config as config_lib
from train import data
from train.data import own, sources
from train.data.sources import Arrays
from train.errors import UsageError

NOISE = "noise"
SEVERITIES = (1, 2, 3, 4, 5)
# Corruptions of the released sets that count in their mean, and those that are extras.
RELEASED = (*corruptions.CORRUPTIONS, "frost")
RELEASED_EXTRAS = (*corruptions.EXTRAS, "spatter")
_TFDS_NAMES = {
    {"elastic_transform": "elastic", "glass_blur": "frosted_glass_blur"}.get(name, name): name
    for name in (*RELEASED, *RELEASED_EXTRAS)
}


class Corrupted(NamedTuple):
    """Images with one corruption at one severity, uint8, and their classes."""

    name: str
    images: np.ndarray
    labels: np.ndarray


def outside(
    names: Sequence[str], shape: tuple[int, ...], config: config_lib.Data, *, count: int
) -> dict[str, np.ndarray]:
    """Loads images from other data sets, in the size and channels of the run's images.

    Args:
      names: data sets, including a user's own, or "noise", uniform random pixels; the run's own is skipped.
      shape: shape [h, w, c] of the run's images.
      config: configuration of the run's data, with the folders of the others.
      count: largest number of images from each.

    Returns:
      uint8 images [n, h, w, c] by name.
    """
    found: dict[str, np.ndarray] = {}
    for name in names:
        if name == NOISE:
            found[name] = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
        elif _absolute(name) != _absolute(config.name):
            if not own.is_own(name):
                config_lib.known("data set", name, [NOISE, *sources.EMBEDDED, *sources.RESIDENT, *own.KINDS])
            other = config_lib.Data(name=name, data_dir=config.data_dir, manual_dir=config.manual_dir)
            if own.is_cut(name):
                other.image_size = shape[0]
            images, labels = data.load(other).splits["test"].resident
            if images is None or labels is None or images.ndim != 4:
                raise UsageError(f"--ood={name}: not a set of images: take another, such as digits or {NOISE}")
            found[name] = resized(images[first(labels, count)], shape)
    return found


def _absolute(name: str) -> str:
    return os.path.realpath(os.path.expanduser(name))


def first(labels: np.ndarray, count: int) -> np.ndarray:
    """Places of the first samples; where they lie class by class, as in a folder, of some from all along."""
    count = min(count, len(labels))
    by_class = bool(np.all(labels[1:] >= labels[:-1]))
    return np.arange(count) * len(labels) // count if by_class else np.arange(count)


def resized(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 images [n, ...] as [n, h, w, c]: bilinearly resized, in gray or in colour."""
    from PIL import Image

    size = (shape[1], shape[0])
    mode = "L" if shape[2] == 1 else "RGB"
    pictures = [
        Image.fromarray(image.squeeze()).convert(mode).resize(size, Image.Resampling.BILINEAR) for image in images
    ]
    return np.stack([np.asarray(picture).reshape(shape) for picture in pictures])


def released(folder: pathlib.Path, samples: Arrays, *, limit: int) -> Iterator[Corrupted]:
    """Loads CIFAR-C as released, from <corruption>.npy and labels.npy, with five severities one after the other.

    Args:
      folder: the folder of these files.
      samples: images and labels of the run's test split, from which the files must come.
      limit: images of each severity; 0 takes all.

    Raises:
      UsageError: if there are no files, or they come from other images.
    """
    images, labels = samples
    names = [name for name in (*RELEASED, *RELEASED_EXTRAS) if (folder / f"{name}.npy").is_file()]
    if not names or not (folder / "labels.npy").is_file():
        raise UsageError(f"--corrupted_dir={folder} needs labels.npy and files <corruption>.npy, such as fog.npy")
    if not np.array_equal(np.load(folder / "labels.npy"), np.tile(labels, 5)):
        raise UsageError(
            f"--corrupted_dir={folder}: labels.npy does not repeat the run's {len(labels)} test labels five times"
        )
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    for name, stacked in files.items():
        if stacked.dtype != np.uint8 or stacked.shape != (5 * len(labels), *images.shape[1:]):
            expected = (5 * len(labels), *images.shape[1:])
            raise UsageError(f"{name}.npy has shape {stacked.shape} of {stacked.dtype}, not {expected} of uint8")
    return (
        Corrupted(name, np.asarray(part[: limit or None]), labels[: limit or None])
        for name, stacked in files.items()
        for part in np.split(stacked, 5)
    )


def released_by_tfds(config: config_lib.Data, *, limit: int) -> Iterator[Corrupted]:
    """The sets of tfds' cifar10_corrupted; raises a UsageError unless the run is of CIFAR-10 and all are prepared."""
    if config.name != "cifar10":
        raise UsageError(f"--corrupted_tfds is for runs on cifar10, not {config.name}")
    sets = [f"{name}_{severity}" for name in _TFDS_NAMES for severity in SEVERITIES]
    missing = [name for name in sets if not sources.is_prepared(f"{sources.CORRUPTED}/{name}", config.data_dir)]
    if missing:
        raise UsageError(
            f"{len(missing)} sets of cifar10_corrupted are not prepared, such as {missing[0]}: "
            f"run python -m train.prepare cifar10_corrupted"
        )

    def read() -> Iterator[Corrupted]:
        for name in sets:
            images, labels = sources.corrupted(name, config.data_dir)
            yield Corrupted(_TFDS_NAMES[name[:-2]], images[: limit or None], labels[: limit or None])

    return read()
