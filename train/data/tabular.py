"""Reads and checks a user's own arrays from .npz files, .csv files and functions."""

from collections.abc import Mapping, Sequence
import csv
import pathlib
from typing import Any

import numpy as np

from train.data import own_splits
from train.data.sources import Arrays, Raw
from train.errors import UsageError, line

SPLITS = ("train", "test")


def from_npz(path: pathlib.Path) -> Raw:
    """Reads train_images, train_labels, test_images, test_labels and, if present, class_names."""
    wanted = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
    found = _load(path, (*wanted, "class_names"))
    missing = [key for key in wanted if key not in found]
    if missing:
        raise UsageError(f"{path} has no {', '.join(missing)}: save all of {', '.join(wanted)}")
    splits = {split: (found[f"{split}_images"], found[f"{split}_labels"]) for split in SPLITS}
    return from_arrays(str(path), splits, found.get("class_names", np.array([], str)))


def _load(path: pathlib.Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    _exists(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {key: held[key] for key in keys if key in held}
    except Exception as error:  # numpy, zipfile and zlib raise all kinds
        raise UsageError(
            f"cannot read {path}, {line(error)}: write it again with np.savez, from plain arrays"
        ) from None


def from_arrays(name: str, splits: Mapping[str, Any], class_names: Any = ()) -> Raw:
    """Checks the arrays of both splits and converts them for the trainer.

    Args:
      name: name of the source, for messages.
      splits: inputs and labels of train and test. Inputs are uint8 images [n, h, w] or [n, h, w, c], with c 1 or 3,
        or rows of floats [n, d]. Labels are integers [n] from 0 without gaps, the same in both splits. Training
        samples are sorted by class, as in a folder, so that the same images give the same run.
      class_names: one name per class, or None.

    Raises:
      UsageError: if the arrays have another form.
    """
    arrays = {split: _checked(f"{name}, {split}", *splits[split]) for split in SPLITS}
    (train, labels), (test, test_labels) = arrays["train"], arrays["test"]
    if train.shape[1:] != test.shape[1:]:
        raise UsageError(
            f"{name}: training samples are {train.shape[1:]} of {train.dtype}, test samples {test.shape[1:]} of "
            f"{test.dtype}: make them alike"
        )
    num_classes = int(max(labels.max(), test_labels.max())) + 1
    for split, found in (("train", labels), ("test", test_labels)):
        absent = np.flatnonzero(np.bincount(found, minlength=num_classes) == 0)
        if len(absent):
            raise UsageError(
                f"{name}, {split}: no sample has the label {absent[0]}, and the largest is {num_classes - 1}: "
                "number the classes from 0 without gaps, each in both splits"
            )
    if num_classes < 2:
        raise UsageError(f"{name}: all labels are 0: give samples of at least two classes")
    names = np.asarray(class_names)
    if names.size and (names.shape != (num_classes,) or names.dtype.kind != "U"):
        raise UsageError(
            f"{name}: class_names are {names.shape} of {names.dtype}, for {num_classes} classes: "
            "give one string per class, or leave class_names out"
        )
    by_class = np.argsort(labels, kind="stable")
    return Raw(arrays | {"train": (train[by_class], labels[by_class])}, num_classes, tuple(map(str, names)))


def _checked(name: str, inputs: Any, labels: Any) -> Arrays:
    try:
        inputs, labels = np.asarray(inputs), np.asarray(labels)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: its inputs or labels are ragged or not arrays: give numpy arrays") from None
    if inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[..., None]
    images = inputs.dtype == np.uint8 and inputs.ndim == 4 and inputs.shape[-1] in (1, 3)
    if not (images or (inputs.dtype.kind == "f" and inputs.ndim == 2)) or not inputs.size:
        raise UsageError(
            f"{name}: inputs are {inputs.shape} of {inputs.dtype}: give uint8 images, [n, h, w], [n, h, w, 1] or "
            "[n, h, w, 3], or rows of floats [n, d]"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(inputs):
        raise UsageError(
            f"{name}: labels are {labels.shape} of {labels.dtype} for {len(inputs)} samples: "
            "give one integer per sample"
        )
    if labels.min() < 0 or labels.max() >= len(labels):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UsageError(
            f"{name}: the label {wrong} is out of range for {len(labels)} samples: number the classes from 0 without "
            "gaps, each in both splits"
        )
    if not images:
        inputs = _finite(name, inputs)
    return inputs, labels.astype(np.int32)


def _finite(name: str, rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    broken = np.argwhere(~np.isfinite(rows))
    if len(broken):
        row, column = broken[0]
        raise UsageError(f"{name}: row {row}, column {column} is not a finite float32: fill it in, or remove the row")
    return rows


def from_csv(path: pathlib.Path) -> Raw:
    """Reads rows of numbers and one column of labels, and splits them.

    Labels are in the column with the heading "label", else in the last. The first line is a
    header if it has that heading, or no number before its last cell. Classes are in natural order.
    A fifth of each class becomes the test split.

    Args:
      path: a file in UTF-8 with commas.

    Raises:
      UsageError: if the file has another form, naming line and column.
    """
    lines = _lines(path)
    first = [cell.strip() for cell in lines[0][1]]
    if len(first) < 2:
        raise UsageError(f"{path}: line {lines[0][0]} has one column: separate features and label by commas")
    headings = [cell.lower() for cell in first]
    headed = "label" in headings or not any(_is_number(cell) for cell in first[:-1])
    column = headings.index("label") if "label" in headings else len(first) - 1
    if headed and "" in first:
        raise UsageError(
            f"{path}: column {first.index('') + 1} has no heading: add one, or remove the column if it numbers the rows"
        )
    rows, labels = [], []
    for number, cells in lines[headed:]:
        if len(cells) != len(first):
            raise UsageError(f"{path}: line {number} has {len(cells)} columns, not {len(first)}: fix it")
        labels.append(cells[column].strip())
        rows.append([_number(path, number, i + 1, cell) for i, cell in enumerate(cells) if i != column])
        if not labels[-1]:
            raise UsageError(f"{path}: line {number} has no label: add one, or remove the line")
    if not rows:
        raise UsageError(f"{path} has no rows: add some below its header")
    names = tuple(sorted(set(labels), key=own_splits.natural))
    numbers = {label: number for number, label in enumerate(names)}
    places = [numbers[label] for label in labels]
    train, test = own_splits.split(places, names, name=str(path))
    inputs, classes = np.array(rows), np.array(places)
    return from_arrays(
        str(path), {"train": (inputs[train], classes[train]), "test": (inputs[test], classes[test])}, names
    )


def _lines(path: pathlib.Path) -> list[tuple[int, list[str]]]:
    """Reads the lines that are not empty, with their numbers."""
    _exists(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {path}, {error}: write it again, in UTF-8 with commas") from None
    if not lines:
        raise UsageError(f"{path} has no rows: add some")
    return lines


def _exists(path: pathlib.Path) -> None:
    if not path.is_file():
        raise UsageError(f"{path} is not a file: name an existing one")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's numbers may have some, a table's do not


def _number(path: pathlib.Path, line: int, column: int, cell: str) -> float:
    if not _is_number(cell) or not abs(float(cell)) <= float(np.finfo(np.float32).max):
        raise UsageError(
            f"{path}: line {line}, column {column} is {cell!r}, not a finite number: fill it in, or remove the line"
        )
    return float(cell)
