"""Loads and checks data sets, and orders the samples of an epoch."""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from train import config as config_lib
from train.data import own, own_digest, sources, streams
from train.data.splits import InMemory, Split, Streamed
from train.errors import UsageError


class Dataset(NamedTuple):
    """A data set: its splits train, test and perhaps validation by name, and their description."""

    splits: dict[str, Split]
    num_classes: int
    mean: Float[np.ndarray, " c"]
    std: Float[np.ndarray, " c"]
    class_names: tuple[str, ...] = ()  # none where nobody has named them
    digest: str = ""  # of a user's own data, which may change under their name


class Means(NamedTuple):
    """Means over the training split, or over 2,000 streamed images, for `jaxmix.regularization.rescale`.

    Attributes:
      inputs: the mean of normalised inputs without augmentation, shaped like one input.
      labels: the frequency of each class.
    """

    inputs: Float[np.ndarray, "..."]
    labels: Float[np.ndarray, " c"]


def prepare(config: config_lib.Data) -> None:
    """Prepares a data set of tfds if its original files are given and it is not prepared yet."""
    if config.name in (*sources.RESIDENT, *sources.STREAMED) or config.name.startswith(sources.ANY):
        sources.prepared(config)


def load(config: config_lib.Data, *, seed: int = 0) -> Dataset:
    """Loads a data set by name, splits it as configured and checks it.

    Args:
      config: the configuration of the data.
      seed: seed for the crops of streamed images.

    Returns:
      The data set.

    Raises:
      UsageError: if the data set is unknown, not prepared or malformed, or cannot be split as configured.
    """
    raw = _read(config, seed)
    dataset = _in_memory(config, raw) if isinstance(raw, sources.Raw) else _streamed(config, raw)
    if own.is_own(config.name):
        dataset = dataset._replace(digest=own_digest.digest(config.name, raw))
    channels = dataset.splits["train"].shape[-1]
    if {len(dataset.mean), len(dataset.std)} != {channels} or not np.all(dataset.std > 0):
        raise UsageError(
            f"data.mean={config.mean} and data.std={config.std}: give {channels} numbers each, std above 0, or neither"
        )
    return dataset


def _read(config: config_lib.Data, seed: int) -> sources.Raw | streams.Streams:
    if config.name in sources.EMBEDDED:
        return sources.EMBEDDED[config.name](config.split_seed)
    if config.name in sources.RESIDENT:
        return sources.from_tfds(config, sources.RESIDENT[config.name])
    if config.name in sources.STREAMED:
        return streams.from_tfds(config, seed=seed)
    return own.read(config, seed=seed)


def _in_memory(config: config_lib.Data, raw: sources.Raw) -> Dataset:
    splits = {name: InMemory(*arrays) for name, arrays in raw.splits.items()}
    for name, split in splits.items():
        check(f"{config.name}/{name}", split, raw.num_classes)
    train = splits["train"]
    if config.num_validation:
        held_out, rest = stratified(train.labels, config.num_validation, seed=config.split_seed)
        splits["validation"], train = train.take(held_out), train.take(rest)
    if config.num_train:
        train = train.take(balanced(train.labels, config.num_train, seed=config.split_seed))
    splits["train"] = train
    mean, std = (config.mean, config.std) if config.mean or config.std else statistics(train)
    normalisation = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return Dataset(dict(splits), raw.num_classes, *normalisation, raw.class_names)


def _streamed(config: config_lib.Data, raw: streams.Streams) -> Dataset:
    splits: dict[str, Split] = {
        name: Streamed(images, max(1, config.num_threads)) for name, images in raw.splits.items()
    }
    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    return Dataset(splits, raw.splits["train"].num_classes, mean, std, raw.class_names)


def check(name: str, split: InMemory, num_classes: int) -> None:
    """Raises a ValueError unless a split has the form that the step expects."""
    inputs, labels = split.inputs, split.labels
    images = inputs.dtype == np.uint8 and inputs.ndim == 4
    rows = inputs.dtype == np.float32 and inputs.ndim == 2 and bool(np.isfinite(inputs).all())
    if not (images or rows) or len(inputs) != len(labels) or not len(labels):
        raise ValueError(f"{name}: {len(labels)} labels, inputs {inputs.shape} of {inputs.dtype}")
    if labels.dtype != np.int32 or labels.ndim != 1 or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"{name}: labels {labels.shape} of {labels.dtype}, not int32 from 0 to {num_classes - 1}")


def statistics(split: InMemory) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Returns mean and standard deviation of each channel, for images in [0, 1]."""
    values = split.inputs.reshape(-1, split.inputs.shape[-1])
    if values.dtype == np.uint8:  # by counts, which need no float copy of the images
        levels = np.arange(256)[:, None] / 255
        counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T], axis=1)
        mean = (levels * counts).sum(0) / len(values)
        std = np.sqrt(((levels - mean) ** 2 * counts).sum(0) / len(values))
    else:
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


def balanced(labels: Int[np.ndarray, " n"], count: int, *, seed: int) -> Int[np.ndarray, " count"]:
    """Returns indices of `count` samples, with equal numbers of each class, up to one."""
    classes, sizes = np.unique(labels, return_counts=True)
    wanted = count // len(classes) + (np.arange(len(classes)) < count % len(classes))
    if count < len(classes) or np.any(wanted > sizes):
        raise UsageError(
            f"data.num_train={count}: take from {len(classes)} to {len(classes) * sizes.min()}, "
            f"the smallest of {len(classes)} classes has {sizes.min()} samples"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == c][:k] for c, k in zip(classes, wanted, strict=True)]))


def stratified(labels: Int[np.ndarray, " n"], count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of `count` samples, with each class in its proportion, and of the rest."""
    from sklearn import model_selection

    classes, n = len(np.unique(labels)), len(labels)
    if not classes <= count <= n - classes:
        raise UsageError(f"num_validation={count}: take from {classes} to {n - classes} of {n} samples")
    rest, held_out = model_selection.train_test_split(np.arange(n), test_size=count, stratify=labels, random_state=seed)
    return np.sort(held_out), np.sort(rest)


def means(dataset: Dataset) -> Means:
    """Averages the training split."""
    inputs, labels = dataset.splits["train"].sample()
    mean = inputs.mean(axis=0, dtype=np.float64) / (255 if inputs.dtype == np.uint8 else 1)
    frequencies = np.bincount(labels, minlength=dataset.num_classes) / len(labels)
    return Means(((mean - dataset.mean) / dataset.std).astype(np.float32), frequencies.astype(np.float32))


def epoch_order(n: int, batch_size: int, *, seed: int, epoch: int) -> Int[np.ndarray, "steps batch"]:
    """Returns the samples of each step of an epoch, the same for any number of devices.

    The epoch omits the last samples that do not fill a batch; the next epoch omits others.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n).astype(np.int32)
    return order[: n // batch_size * batch_size].reshape(-1, batch_size)
