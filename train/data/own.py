"""Loads a user's own data by its name: a folder, a file, a function, or a data set of tfds."""

import math
import pathlib
from typing import Any

import numpy as np

from train import config as config_lib
from train import user_code
from train.data import folders, pictures, sources, streams, tabular
from train.errors import UsageError

KINDS = ("FOLDER/", "FILE.npz", "FILE.csv", "MODULE:FUNCTION", f"{sources.ANY}NAME")


def is_own(name: str) -> bool:
    """Returns whether a name is a folder, a file, a function or a set of tfds, not one of this program's names."""
    path = pathlib.Path(name).expanduser()
    known = {"", *sources.EMBEDDED, *sources.RESIDENT, *sources.STREAMED}  # an empty path would be the current folder
    return name not in known and (path.is_dir() or path.suffix.lower() in (".npz", ".csv") or bool({*name} & {*"/:"}))


def is_folder(name: str) -> bool:
    """Returns whether a name is a folder of images, for which alone data.channels counts."""
    return is_own(name) and not name.startswith(sources.ANY) and pathlib.Path(name).expanduser().is_dir()


def is_cut(name: str) -> bool:
    """Returns whether a name has images that data.image_size cuts to one size."""
    return name.startswith(sources.ANY) or pathlib.Path(name).expanduser().is_dir()


def read(config: config_lib.Data, *, seed: int) -> sources.Raw | streams.Streams:
    """Reads a user's own data set.

    Args:
      config: the data's name, and the size of images.
      seed: seed of random crops, if images are streamed.

    Raises:
      UsageError: if there is no such data set, or it is malformed.
    """
    name, path = config.name, pathlib.Path(config.name).expanduser()
    if not is_own(name):
        known = (*sources.EMBEDDED, *sources.RESIDENT, *sources.STREAMED, *KINDS)
        config_lib.known("data set", name or "''", known)
    if config.image_size < 0:
        raise UsageError(f"data.image_size must be at least 1, or 0 for the images' own size, got {config.image_size}")
    if is_folder(name):
        return _folder(path, config, seed)
    if config.channels != config_lib.Data.channels:
        raise UsageError(f"data.channels={config.channels} is for folders of images, not {name}: do not set it")
    if name.startswith(sources.ANY):
        return _tfds(config, seed)
    if config.image_size:
        raise UsageError(
            f"data.image_size={config.image_size} is for existing folders of images, not {name}: do not set it"
        )
    if path.suffix.lower() == ".npz":
        return tabular.from_npz(path)
    if path.suffix.lower() == ".csv":
        return tabular.from_csv(path)
    if "/" in name:
        raise UsageError(f"{name} is not a folder here: name one with images, or FILE.npz or FILE.csv")
    return _call(name)


def _folder(folder: pathlib.Path, config: config_lib.Data, seed: int) -> sources.Raw | streams.Streams:
    pictures.check(config.channels)
    files, names = folders.find(folder)
    size: int | tuple[int, int] = config.image_size
    if not size:
        first = files["train"][0]
        image = pictures.decoded(first["image"], name=first["name"], channels=config.channels)
        size = image.height, image.width
    images = {
        name: streams.Images(part, len(names), size, False, seed, config.channels, central=1)
        for name, part in files.items()
    }
    return streams.held_or_streamed(config, images, names)


def _tfds(config: config_lib.Data, seed: int) -> sources.Raw | streams.Streams:
    builder = sources.prepared(config)
    features, splits = builder.info.features, builder.info.splits
    names = getattr(features["label"], "names", None) if "label" in features else None
    shape: tuple[Any, ...] = features["image"].shape if "image" in features else ()
    if not names or len(shape) != 3 or shape[-1] not in pictures.MODES:
        raise UsageError(
            f"{config.name} has the features {', '.join(features)}, not an image (gray or RGB) and a label: "
            "take another data set"
        )
    dtype = np.dtype(features["image"].dtype)
    if dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{config.name} has images of {dtype}, not of 8 or 16 bits: take another data set")
    test = next((name for name in ("test", "validation") if name in splits), "")
    if not test or "train" not in splits:
        raise UsageError(
            f"{config.name} has the splits {', '.join(splits)}, not train and test or validation: take another data set"
        )
    num_images = splits["train"].num_examples + splits[test].num_examples
    whole = not config.image_size and dtype == np.uint8 and None not in shape
    if whole and num_images * math.prod(shape) <= streams.MOST_HELD:
        raw = sources.from_tfds(config, test)
        for split, (_, labels) in raw.splits.items():
            if labels.min() < 0:
                raise UsageError(f"{config.name}, {split}: a sample has no label: take another data set")
        return raw
    size = config.image_size or (shape[0] if shape[0] == shape[1] else None)
    if not size:
        raise UsageError(f"{config.name} has images of several sizes: give data.image_size, the size to cut them to")
    images = {
        name: streams.Images(streams.encoded(builder, part), len(names), size, False, seed, shape[-1], central=1)
        for name, part in (("train", "train"), ("test", test))
    }
    return streams.held_or_streamed(config, images, tuple(names))


def _call(name: str) -> sources.Raw:
    """Reads the result of a user's function, {"train": (inputs, labels), "test": (inputs, labels)}."""
    found = user_code.call(name)
    pairs = isinstance(found, dict) and all(
        isinstance(found.get(split), tuple | list) and len(found[split]) == 2 for split in tabular.SPLITS
    )
    if not pairs:
        raise UsageError(f"{name} must return {{'train': (inputs, labels), 'test': (inputs, labels)}}")
    return tabular.from_arrays(name, found, found.get("class_names", ()))
