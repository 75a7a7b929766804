"""Orders and splits a user's own samples."""

from collections.abc import Sequence
import re
from typing import Any
import unicodedata

import numpy as np

from train.errors import UsageError


def split(labels: Sequence[int], names: Sequence[str], *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Places of samples to train on and, a fifth of each class and at least one of it, to test on.

    They are drawn by a fixed seed: with one of the run's own, a comparison would choose by some
    runs on samples that others are tested on.

    Args:
      labels: of all samples, classes as they are numbered.
      names: of the classes.
      name: of where they are from, for messages.
    """
    classes = np.asarray(labels)
    order = np.random.default_rng(0).permutation(len(classes))
    tested = np.zeros(len(classes), bool)
    for label, class_name in enumerate(names):
        mine = order[classes[order] == label]
        if len(mine) < 2:
            raise UsageError(
                f"{name}: class {class_name} has one sample, but training and testing need one each: add some, "
                "or remove the class"
            )
        tested[mine[: max(1, round(len(mine) / 5))]] = True
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def natural(name: str) -> tuple[list[Any], str]:
    """The key of an order that has 2 before 10, and 01 before 1, the same on every machine."""
    spelt = composed(name)
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", spelt))], spelt


def composed(name: str) -> str:
    """One spelling of accents, which file systems have two of."""
    return unicodedata.normalize("NFC", name)
