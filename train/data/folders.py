"""Lists the files of image folders, with one subfolder per class, in a fixed order."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from train.data import own_splits
from train.errors import UsageError

TEST = ("test", "validation", "val")
UNREAD = (".heic", ".heif", ".jxl")  # images all the same, which would be missed if they were passed over


@dataclasses.dataclass(frozen=True)
class Files(Sequence):
    """Image files and their classes, which are read on access."""

    paths: tuple[pathlib.Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        try:
            return {"image": path.read_bytes(), "label": self.labels[index], "name": str(path)}
        except OSError as error:
            raise UsageError(f"cannot read {path}, {error.strerror}: fix it, or remove it") from None

    def take(self, places: np.ndarray) -> "Files":
        """Returns some of the files."""
        return Files(tuple(self.paths[i] for i in places), tuple(self.labels[i] for i in places))


def find(folder: pathlib.Path) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Returns the files of the training and the test split, and the names of the classes.

    Args:
      folder: a folder with train/ and test/, validation/ or val/; or with one folder per class, a fifth of each
        of which becomes the test split.

    Raises:
      UsageError: if there are no images, or a class has none, or is in one split only.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not a folder: name one with images, in train/ and test/, or in one subfolder per class"
        )
    if not (folder / "train").is_dir():
        files, names = _classes(folder)
        if len({name.lower() for name in names} & {*TEST, "train", "training", "testing", "valid"}) > 1:
            raise UsageError(f"{folder} has {', '.join(names)} but no train/: name its splits train/ and test/")
        train, test = own_splits.split(files.labels, names, name=str(folder))
        return {"train": files.take(train), "test": files.take(test)}, names
    tests = [folder / name for name in TEST if (folder / name).is_dir()]
    if not tests:
        raise UsageError(
            f"{folder} has train/ but no test/: add that, or put the folders of all classes, none named train, "
            f"into {folder}"
        )
    (train_files, names), (test_files, test_names) = _classes(folder / "train"), _classes(tests[0])
    for name in sorted({*names} ^ {*test_names}, key=own_splits.natural):
        there, other = (folder / "train", tests[0]) if name in names else (tests[0], folder / "train")
        raise UsageError(f"class {name} is in {there} but not in {other}: add its images there, or remove the class")
    return {"train": train_files, "test": test_files}, names


def _classes(folder: pathlib.Path) -> tuple[Files, tuple[str, ...]]:
    """Lists all images below a folder, by class and name, and the names of the classes."""
    folders = [path for path in _listed(folder) if path.is_dir()]
    names = tuple(dict.fromkeys(own_splits.composed(path.name) for path in folders))
    if len(names) < 2:
        raise UsageError(f"{folder} has {len(names)} folders of classes: make one for each class, at least two")
    paths: list[pathlib.Path] = []
    labels: list[int] = []
    for path in folders:
        found = list(_images(path, ()))
        if not found:
            raise UsageError(f"{path} has no images: add some, or remove the class")
        paths += found
        labels += [names.index(own_splits.composed(path.name))] * len(found)
    return Files(tuple(paths), tuple(labels)), names


def _images(folder: pathlib.Path, above: tuple[pathlib.Path, ...]) -> Iterator[pathlib.Path]:
    """Yields the files with an image's ending, in this folder and its subfolders; follows links."""
    resolved = folder.resolve()
    if resolved in above:
        raise UsageError(f"{folder} is a link to a folder that contains it: remove it")
    for path in _listed(folder):
        if path.is_dir():
            yield from _images(path, (*above, resolved))
        elif path.suffix.lower() in _extensions():
            yield path
        elif path.suffix.lower() in UNREAD:
            raise UsageError(f"{path} has a format that Pillow does not read: convert it, or remove it")


@functools.cache
def _extensions() -> frozenset[str]:
    """Returns the endings of all formats that Pillow reads."""
    from PIL import Image

    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def _listed(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists a folder without hidden entries, in natural order."""
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise UsageError(f"cannot read {folder}, {error.strerror}: fix it, or remove it") from None
    return sorted(visible, key=lambda path: (own_splits.natural(path.name), path.name))
