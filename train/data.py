"""Data sets in memory, and the order in which a run goes through them."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Float, Int, UInt8
import numpy as np

from train import config as config_lib


class Split(NamedTuple):
    """Samples and their classes; held on the devices during a run."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]


class Dataset(NamedTuple):
    """A training and a test split, and what describes them."""

    train: Split
    test: Split
    num_classes: int


def load(config: config_lib.Data) -> Dataset:
    """Loads a data set by name, checked: uint8 images, int32 labels below num_classes."""
    sources = {"digits": _digits}
    config_lib.known("data set", config.name, list(sources))
    dataset = sources[config.name]()
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        if split.images.dtype != np.uint8 or split.images.ndim != 4 or len(split.images) != len(split.labels):
            raise ValueError(f"{config.name}/{name}: images {split.images.shape} of {split.images.dtype}")
        if split.labels.min() < 0 or split.labels.max() >= dataset.num_classes:
            raise ValueError(f"{config.name}/{name}: labels outside 0..{dataset.num_classes - 1}")
    return dataset


def statistics(split: Split) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    pixels = split.images.reshape(-1, split.images.shape[-1]) / 255
    return pixels.mean(0).astype(np.float32), np.maximum(pixels.std(0), 1e-6).astype(np.float32)


def epoch_order(n: int, batch_size: int, *, seed: int, epoch: int) -> Int[np.ndarray, "steps batch"]:
    """The samples of each step of an epoch: the same for any number of devices.

    The last samples that do not fill a batch are left out; the next epoch has others.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n).astype(np.int32)
    return order[: n // batch_size * batch_size].reshape(-1, batch_size)


def padded_batches(n: int, batch_size: int) -> Iterator[tuple[Int[np.ndarray, " batch"], Float[np.ndarray, " batch"]]]:
    """All samples in batches of equal size: their indices, and weights of 0 for what fills up the last."""
    for start in range(0, n, batch_size):
        index = np.arange(start, start + batch_size, dtype=np.int32)
        yield np.minimum(index, n - 1), (index < n).astype(np.float32)


def _digits() -> Dataset:
    """1,797 digits of 8 x 8 in 17 shades of gray; a fifth is the test split, class-balanced, fixed."""
    from sklearn import datasets, model_selection

    images, labels = datasets.load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = model_selection.train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    labels = labels.astype(np.int32)
    return Dataset(Split(images[train], labels[train]), Split(images[test], labels[test]), num_classes=10)
