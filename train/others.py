"""Images from elsewhere that a run is evaluated on: other data sets, noise, CIFAR-C as released."""

from collections.abc import Iterator, Sequence
import pathlib
from typing import NamedTuple

import numpy as np

from jaxmix.evaluation import corruptions
from train import config as config_lib
from train import data, sources
from train.config import UsageError

NOISE = "noise"
# Corruptions of the released sets that count in their mean, and those that are extras.
RELEASED = (*corruptions.CORRUPTIONS, "frost")
RELEASED_EXTRAS = (*corruptions.EXTRAS, "spatter")
_TFDS_NAMES = {
    {"elastic_transform": "elastic", "glass_blur": "frosted_glass_blur"}.get(name, name): name
    for name in (*RELEASED, *RELEASED_EXTRAS)
}


class Corrupted(NamedTuple):
    """Images of one corruption at one severity, uint8, and their classes."""

    name: str
    severity: int
    images: np.ndarray
    labels: np.ndarray


def outside(
    names: Sequence[str], shape: tuple[int, ...], config: config_lib.Data, *, count: int
) -> dict[str, np.ndarray]:
    """Images of other data sets, made as large and as coloured as the run's.

    Args:
      names: data sets, or "noise": pixels drawn uniformly; the run's own is left out.
      shape: [h, w, c] of the run's images.
      config: of the run's data, which says where the others lie.
      count: how many of each, at most.

    Returns:
      uint8 images [n, h, w, c] by name.
    """
    found: dict[str, np.ndarray] = {}
    for name in names:
        if name == NOISE:
            found[name] = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
        elif name != config.name:
            other = config_lib.Data(name=name, data_dir=config.data_dir, manual_dir=config.manual_dir)
            config_lib.known("data set", name, [NOISE, *sources.EMBEDDED, *sources.RESIDENT])
            images, _ = data.load(other).splits["test"].resident
            if images is None or images.ndim != 4:
                raise UsageError(f"--ood={name}: not a set of images: take others, such as digits or {NOISE}")
            found[name] = resized(images[:count], shape)
    return found


def resized(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 images [n, ...] as [n, h, w, c]: bilinearly resized, in gray or in colour."""
    from PIL import Image

    size = (shape[1], shape[0])
    mode = "L" if shape[2] == 1 else "RGB"
    pictures = [
        Image.fromarray(image.squeeze()).convert(mode).resize(size, Image.Resampling.BILINEAR) for image in images
    ]
    return np.stack([np.asarray(picture).reshape(shape) for picture in pictures])


def released(folder: pathlib.Path, labels: np.ndarray, *, limit: int) -> Iterator[Corrupted]:
    """CIFAR-C as released: from <corruption>.npy and labels.npy, five severities one after the other.

    Args:
      folder: of those files.
      labels: of the run's test split, which they have to be.
      limit: images of each severity; 0 takes all.

    Raises:
      UsageError: if there are none, or they are of other images.
    """
    names = [name for name in (*RELEASED, *RELEASED_EXTRAS) if (folder / f"{name}.npy").is_file()]
    if not names or not (folder / "labels.npy").is_file():
        raise UsageError(f"--corrupted_dir={folder}: has no labels.npy and <corruption>.npy, such as fog.npy")
    theirs = np.load(folder / "labels.npy")
    if not np.array_equal(theirs, np.tile(labels, 5)):
        raise UsageError(
            f"--corrupted_dir={folder}: labels.npy is not five times the {len(labels)} test labels of the run"
        )
    for name in names:
        images = np.load(folder / f"{name}.npy", mmap_mode="r")
        if images.dtype != np.uint8 or len(images) != len(theirs):
            raise UsageError(f"{name}.npy holds {images.shape} of {images.dtype}, not {len(theirs)} uint8 images")
        for severity, part in enumerate(np.split(images, 5), start=1):
            yield Corrupted(name, severity, np.asarray(part[: limit or None]), labels[: limit or None])


def released_by_tfds(config: config_lib.Data, *, limit: int) -> Iterator[Corrupted]:
    """What tfds has prepared of cifar10_corrupted; raises a UsageError where that is nothing."""
    found = False
    for tfds_name, name in _TFDS_NAMES.items():
        for severity in range(1, 6):
            test = sources.corrupted(f"{tfds_name}_{severity}", config.data_dir)
            if test is not None:
                found = True
                yield Corrupted(name, severity, test[0][: limit or None], test[1][: limit or None])
    if not found:
        raise UsageError("cifar10_corrupted is not prepared: run python -m train.prepare cifar10_corrupted")
