"""Splits of samples and classes, kept on the devices or sent with each batch."""

from collections.abc import Iterator
import dataclasses
import math
from typing import NamedTuple, Protocol

from jaxtyping import Float, Int
import numpy as np

from train.data import streams

NUM_AVERAGED = 2000  # decoded images; the standard error of their mean pixel is 1/45 of a pixel's deviation


class Batch(NamedTuple):
    """What a step is given: places in a split, and their samples where the device does not hold the split."""

    indices: Int[np.ndarray, " n"]
    inputs: np.ndarray | None = None
    labels: np.ndarray | None = None


class Split(Protocol):
    """Samples and their classes."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""

    @property
    def resident(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Inputs and labels that the devices hold during a run; None where they come with each batch."""

    def batches(self, order: Int[np.ndarray, "steps n"], *, epoch: int) -> Iterator[Batch]:
        """The batches of these samples."""

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """All inputs and labels, on the host."""

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels to average, not augmented."""


@dataclasses.dataclass(frozen=True)
class InMemory:
    """A split that the devices hold: uint8 images [n, h, w, c] or float32 rows [n, d], int32 labels [n]."""

    inputs: np.ndarray
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.inputs.shape[1:]

    @property
    def resident(self) -> tuple[np.ndarray, np.ndarray]:
        """All of it."""
        return self.inputs, self.labels

    def batches(self, order: Int[np.ndarray, "steps n"], *, epoch: int) -> Iterator[Batch]:
        """Only the places: the step gathers the samples."""
        del epoch
        return (Batch(indices) for indices in order)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """All inputs and labels."""
        return self.inputs, self.labels

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them."""
        return self.inputs, self.labels

    def take(self, indices: Int[np.ndarray, " m"]) -> "InMemory":
        """Some of the samples."""
        return InMemory(self.inputs[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A split whose images are decoded on the host, by threads, and come with each batch."""

    images: streams.Images
    num_threads: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.images.shape

    @property
    def resident(self) -> tuple[None, None]:
        """Nothing."""
        return None, None

    def batches(self, order: Int[np.ndarray, "steps n"], *, epoch: int) -> Iterator[Batch]:
        """The decoded samples; what is random about them follows from seed, epoch and place."""
        for inputs, labels, indices in self.images.batches(order, epoch=epoch, num_threads=self.num_threads):
            yield Batch(indices, inputs, labels)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """All of them, decoded, in memory."""
        return self._read(np.arange(len(self)))

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """The central squares of some of them, in memory."""
        central = dataclasses.replace(self, images=dataclasses.replace(self.images, random_crop=False))
        return central._read(np.random.default_rng(0).permutation(len(self))[:NUM_AVERAGED])

    def _read(self, places: Int[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
        index, _ = padded_order(len(places), min(256, len(places)))
        batches = list(self.batches(places[index], epoch=0))
        inputs, labels = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("inputs", "labels"))
        return inputs[: len(places)], labels[: len(places)]


def padded_order(n: int, batch_size: int) -> tuple[Int[np.ndarray, "steps batch"], Float[np.ndarray, "steps batch"]]:
    """All samples in batches of equal size: their places, and weights of 0 for what fills up the last."""
    index = np.arange(math.ceil(n / batch_size) * batch_size, dtype=np.int32).reshape(-1, batch_size)
    return np.minimum(index, n - 1), (index < n).astype(np.float32)
