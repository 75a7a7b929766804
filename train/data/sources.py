"""Sources of data sets: toy sets made here, sets embedded in scikit-learn, and sets prepared by tfds.

The three toy sets have two classes in the plane, like those of the k-mixup paper: clusters and
manifolds whose structure mixing may break. Their sizes and noise are choices of this module.
"""

from collections.abc import Callable
import functools
import importlib.util
import os
import pathlib
from typing import Any, NamedTuple
import urllib.error
import urllib.request

from absl import logging
import numpy as np

from train import config as config_lib
from train.errors import UsageError, line

Arrays = tuple[np.ndarray, np.ndarray]  # inputs and int32 labels


class Raw(NamedTuple):
    """A training and a test split, by name."""

    splits: dict[str, Arrays]
    num_classes: int
    class_names: tuple[str, ...] = ()


# The split of each tfds data set that this program tests on.
RESIDENT = {"fashion_mnist": "test", "cifar10": "test", "cifar100": "test", "svhn_cropped": "test"}
STREAMED = {"imagenet2012": "validation"}
CORRUPTED = "cifar10_corrupted"  # only evaluated on, in 95 sets
ANY = "tfds:"  # before the name of any other


def from_tfds(config: config_lib.Data, test: str) -> Raw:
    """Reads a prepared tfds data set into memory; test names its split to test on."""
    prepared(config)
    return _read(config.name, config.data_dir, test)


@functools.lru_cache(maxsize=1)  # a comparison trains many runs on one data set
def _read(data_set: str, data_dir: str, test: str) -> Raw:
    builder = tfds_builder(config_lib.Data(name=data_set, data_dir=data_dir))
    label = builder.info.features["label"]
    splits = {"train": _arrays(builder, "train"), "test": _arrays(builder, test)}
    return Raw(splits, label.num_classes, tuple(label.names))


def _arrays(builder: Any, split: str) -> Arrays:
    try:
        return _read_split(builder, split)
    except Exception as error:  # of a broken file; array_record and its readers raise all kinds
        raise UsageError(
            f"cannot read the {split} split of {builder.name} in {builder.data_path}, {line(error)}: "
            "delete that folder and prepare the data again"
        ) from None


def _read_split(builder: Any, split: str) -> Arrays:
    items = builder.as_data_source(split)
    images = np.empty((len(items), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(items), np.int32)
    for start in range(0, len(items), 1000):  # in chunks, three times as fast as one by one
        places = range(start, min(start + 1000, len(items)))
        for i, item in zip(places, items.__getitems__(list(places)), strict=True):
            images[i], labels[i] = item["image"], item["label"]
    images.flags.writeable = labels.flags.writeable = False  # they are shared by all that read them
    return images, labels


def corrupted(name: str, data_dir: str) -> Arrays:
    """A set of tfds' cifar10_corrupted, such as fog_3."""
    return _arrays(tfds_builder(config_lib.Data(name=f"{CORRUPTED}/{name}", data_dir=data_dir)), "test")


def is_prepared(name: str, data_dir: str) -> bool:
    """Whether a tfds data set is on disk."""
    return tfds_builder(config_lib.Data(name=name, data_dir=data_dir)).is_prepared()


def prepared(config: config_lib.Data) -> Any:
    """The tfds builder of a data set that is on disk; it is prepared from manual_dir where that is given."""
    builder = tfds_builder(config)
    if not builder.is_prepared():
        if not config.manual_dir:
            where = f" --data_dir={config.data_dir}" if config.data_dir else ""
            raise UsageError(
                f"{config.name} is not prepared in {builder.data_path}: "
                f"run python -m train.prepare {config.name}{where}"
            )
        prepare(builder, pathlib.Path(config.manual_dir).expanduser())
    return builder


def tfds_builder(config: config_lib.Data) -> Any:
    """The builder of a data set; asks no network."""
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{config.name} needs {error.name}: pip install -e '.[train,tfds]' -c constraints.txt"
        ) from None
    if "://" in config.data_dir:
        raise UsageError(f"data_dir={config.data_dir}: mount that storage, and name a folder in the file system")
    logging.set_verbosity(logging.ERROR)  # of warnings about things that are none of the user's doing
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, folder = config.name.removeprefix(ANY), os.path.expanduser(config.data_dir) or None
    try:
        return tfds.builder(name, data_dir=folder, file_format="array_record")
    except Exception as error:  # tfds raises all kinds, and lists its thousand names
        reason = str(error).strip().partition("\n")[0].rstrip(".:")
        raise UsageError(
            f"tfds has no data set {name} to read, {reason}: see tensorflow.org/datasets/catalog"
        ) from None


def prepare(builder: Any, manual_dir: pathlib.Path | None) -> None:
    """Prepares a data set, from original files or by downloading them; needs TensorFlow."""
    import tensorflow_datasets as tfds

    if not importlib.util.find_spec("tensorflow"):
        raise UsageError(
            f"preparing {builder.name} needs tensorflow: pip install -e '.[train,tfds]' -c constraints.txt"
        )
    files = {url: info.filename or url.rpartition("/")[2] for url, info in builder.url_infos.items()}
    options: dict[str, Any] = {}
    if manual_dir:
        missing = [name for name in files.values() if not (manual_dir / name).is_file()]
        if missing:
            raise UsageError(f"{manual_dir} has no {', '.join(missing)}: name the folder of {builder.name}'s files")
        options["manual_dir"] = manual_dir.resolve()
    elif builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise UsageError(
            f"{builder.name} cannot be downloaded: name the folder of {', '.join(files.values())} by --manual_dir"
        )
    else:
        _reach(next(iter(files)))
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**options))
    except Exception as error:  # tfds and what reads the files for it raise all kinds
        raise UsageError(f"cannot prepare {builder.name}: {line(error)}") from None


def _reach(url: str) -> None:
    """Raises a UsageError at once where there is no network; tfds would try again for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
    except urllib.error.HTTPError:
        pass  # somebody answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"cannot reach {url} ({reason}): put the file into a folder, and name that by --manual_dir"
        ) from None


def _digits() -> Raw:
    """1,797 digits of 8 x 8 in 17 shades of gray; a fifth, class-balanced, is the test split."""
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    return _split(np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8), labels)


def _table(name: str) -> Raw:
    """A table of numbers from scikit-learn; a fifth, class-balanced, is the test split."""
    from sklearn import datasets

    rows, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return _split(rows.astype(np.float32), labels)


def _split(inputs: np.ndarray, labels: np.ndarray) -> Raw:
    from sklearn import model_selection

    train, test = model_selection.train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    labels = labels.astype(np.int32)
    return Raw({"train": (inputs[train], labels[train]), "test": (inputs[test], labels[test])}, labels.max() + 1)


def _toy(draw: Callable[[np.random.Generator, np.ndarray], np.ndarray], seed: int) -> Raw:
    """Two equal classes in the plane: 1,024 points to train on, 4,096 to test on."""
    splits = {}
    for part, (name, n) in enumerate((("train", 1024), ("test", 4096))):
        labels = np.arange(n, dtype=np.int32) % 2
        splits[name] = (draw(np.random.default_rng((seed, part)), labels).astype(np.float32), labels)
    return Raw(splits, 2)


def _one_ring(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """A disc of radius 1, class 0, inside a ring of radius 2, class 1."""
    n = len(labels)
    radius = np.where(labels == 0, np.sqrt(rng.random(n)), 2 + 0.1 * rng.standard_normal(n))
    angle = 2 * np.pi * rng.random(n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _four_bars(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Four parallel bars of 0.4 by 4, a distance of 0.6 apart, their classes alternating."""
    n = len(labels)
    bar = labels + 2 * rng.integers(0, 2, n)
    return np.stack([bar + 0.4 * (rng.random(n) - 0.5), 4 * (rng.random(n) - 0.5)], axis=1)


def _swiss_roll(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Two interleaved spirals of one and a half turns."""
    n = len(labels)
    turn = np.pi * (1 + 3 * np.sqrt(rng.random(n)))
    angle = turn + np.pi * labels
    spiral = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1) / (2 * np.pi)
    return spiral + 0.04 * rng.standard_normal((n, 2))


# Each by a seed, which draws the points; the test split of the others is always the same.
EMBEDDED: dict[str, Callable[[int], Raw]] = {
    "digits": lambda _: _digits(),
    "iris": lambda _: _table("iris"),
    "wine": lambda _: _table("wine"),
    "breast_cancer": lambda _: _table("breast_cancer"),
    "one_ring": functools.partial(_toy, _one_ring),
    "four_bars": functools.partial(_toy, _four_bars),
    "swiss_roll": functools.partial(_toy, _swiss_roll),
}
