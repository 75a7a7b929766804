"""Orders and splits a user's own samples."""

from collections.abc import Sequence
import re
from typing import Any
import unicodedata

import numpy as np

from train.errors import UsageError


def split(labels: Sequence[int], names: Sequence[str], *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of training and test samples; the test split has a fifth of each class, at least one.

    A fixed seed draws them. With the run's own seed, a comparison would choose alpha on samples
    that other runs are tested on.

    Args:
      labels: classes of all samples, as numbers.
      names: names of the classes.
      name: name of the source, for messages.
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
    """Returns the key of natural order, with 2 before 10 and 01 before 1, the same on every machine."""
    spelt = composed(name)
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", spelt))], spelt


def composed(name: str) -> str:
    """Returns a name with composed accents; file systems use two spellings."""
    return unicodedata.normalize("NFC", name)
