"""Describes a run's data in data.json, so that its model can be used without them."""

import json
import pathlib

import numpy as np

from train.data import Dataset
from train.data.splits import InMemory
from train.errors import UsageError
from train.running import run_folder

NAME = "data.json"


def write(folder: pathlib.Path, dataset: Dataset) -> None:
    """Keeps all of a data set but its samples."""
    content = {
        "input_shape": dataset.splits["train"].shape,
        "num_classes": int(dataset.num_classes),
        "class_names": dataset.class_names,
        "mean": [float(value) for value in dataset.mean],
        "std": [float(value) for value in dataset.std],
    }
    run_folder.write_json(folder / NAME, content)


def read(folder: pathlib.Path, *, batch_size: int) -> Dataset | None:
    """A data set whose training split is one batch of zeros, its own otherwise; None of a run that has kept nothing."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        shape, mean, std = tuple(content["input_shape"]), content["mean"], content["std"]
        num_classes, class_names = content["num_classes"], tuple(content["class_names"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is damaged: remove it, and the run reads the data themselves") from None
    inputs = np.broadcast_to(np.zeros((), np.uint8 if len(shape) == 3 else np.float32), (batch_size, *shape))
    train = InMemory(inputs, np.zeros(batch_size, np.int32))
    return Dataset(
        {"train": train}, num_classes, np.asarray(mean, np.float32), np.asarray(std, np.float32), class_names
    )
