"""Times Mixup and CutMix of other libraries and of jaxmix, each on one core of this machine.

Usage: python -m train.timing.peers ROUNDS

Prints the rows of a table as JSON, for train.benchmark --peers. Times those of timm, torchvision,
kornia and keras (on JAX, by calling its layers unchanged) that are installed. All mix float32
images in the library's own layout, and their labels, at alpha = 1.
"""

from collections.abc import Callable, Sequence
import functools
import importlib.metadata
import importlib.util
import json
import os
import sys
from typing import Any

import numpy as np

from train.errors import UsageError
from train.program import program

Calls = dict[str, Callable[[], Any]]
PACKAGES = ("timm", "torchvision", "kornia", "keras")
BATCHES = ((256, 32), (128, 224))
CLASSES = 10


def installed() -> list[str]:
    """Those of the libraries that can be imported."""
    return [name for name in PACKAGES if importlib.util.find_spec(name)]


def calls(images: np.ndarray, labels: np.ndarray) -> Calls:
    """A call of every library's methods, by "method, drawn per what: library"."""
    of_library = {"timm": _timm, "torchvision": _torchvision, "kornia": _kornia, "keras": _keras}
    found = {**_jaxmix(images, labels), **_numpy(images, labels)}
    for name in installed():
        found |= of_library[name](images, labels)
    return found


def _jaxmix(images: np.ndarray, labels: np.ndarray) -> Calls:
    import jax
    import jax.numpy as jnp

    import jaxmix
    from train.timing import cost

    arguments = jnp.asarray(images), jnp.asarray(labels), jax.random.key(0)
    found: Calls = {}
    for method in (jaxmix.mixup, jaxmix.cutmix):
        for drawn, shared in (("sample", False), ("batch", True)):
            function = functools.partial(method, shared=shared)
            found[f"{method.__name__}, {drawn}: jaxmix"] = functools.partial(jax.jit(function), *arguments)
            found[f"{method.__name__}, {drawn}: jaxmix, into scratch"] = cost.recycling(function, *arguments)
    return found


def _numpy(images: np.ndarray, labels: np.ndarray) -> Calls:
    from train.timing import by_hand

    rng, scratch = np.random.default_rng(0), np.empty_like(images)
    return {
        "cutmix, sample: numpy slices": lambda: by_hand.cutmix_by_slices(images, labels, rng, np.empty_like(images)),
        "cutmix, sample: numpy slices, into scratch": lambda: by_hand.cutmix_by_slices(images, labels, rng, scratch),
    }


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    import torch

    torch.set_num_threads(1)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.argmax(1))


def _timm(images: np.ndarray, labels: np.ndarray) -> Calls:
    from timm.data import Mixup

    pair, library = _tensors(images, labels), _on("timm", "torch")
    found: Calls = {}
    for method, alphas in (("mixup", (1.0, 0.0)), ("cutmix", (0.0, 1.0))):
        for drawn, mode in (("sample", "elem"), ("batch", "batch")):
            mix = Mixup(*alphas, mode=mode, label_smoothing=0, num_classes=CLASSES)
            found[f"{method}, {drawn}: {library}, in place"] = functools.partial(mix, *pair)
    return found


def _torchvision(images: np.ndarray, labels: np.ndarray) -> Calls:
    from torchvision.transforms import v2

    pair = _tensors(images, labels)
    methods = {"mixup": v2.MixUp(num_classes=CLASSES), "cutmix": v2.CutMix(num_classes=CLASSES)}
    library = _on("torchvision", "torch")
    return {f"{name}, batch: {library}": functools.partial(mix, *pair) for name, mix in methods.items()}


def _kornia(images: np.ndarray, labels: np.ndarray) -> Calls:
    from kornia import augmentation

    pair = _tensors(images, labels)
    methods = {
        "mixup": augmentation.RandomMixUpV2(p=1.0, data_keys=["input", "class"]),
        "cutmix": augmentation.RandomCutMixV2(p=1.0, data_keys=["input", "class"], use_correct_lambda=True),
    }
    library = _on("kornia", "torch")
    return {f"{name}, sample: {library}": functools.partial(mix, *pair) for name, mix in methods.items()}


def _keras(images: np.ndarray, labels: np.ndarray) -> Calls:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    methods = {"mixup": keras.layers.MixUp(alpha=1.0), "cutmix": keras.layers.CutMix(factor=(1.0, 1.0))}
    pair = {"images": keras.ops.convert_to_tensor(images), "labels": keras.ops.convert_to_tensor(labels)}

    def call(layer: Any) -> Any:
        return layer(dict(pair), training=True)

    library = _on("keras", "jax")
    return {f"{name}, sample: {library}": functools.partial(call, layer) for name, layer in methods.items()}


def _on(*packages: str) -> str:
    """A library and what it computes with, by their versions."""
    return " on ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


@program("train.timing.peers")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli

    parser = cli.Parser(__doc__ or "")
    parser.add_argument("rounds", type=int)
    num_rounds = parser.parse_args(argv).rounds
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system cannot hold a program to one core: compare with other libraries on Linux")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX starts its threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from train.timing import cost, fields

    rows: dict[str, list[Any]] = {}
    for n, size in BATCHES:
        images, labels = fields.random_fields(n, size=size), np.eye(CLASSES, dtype=np.float32)[np.arange(n) % CLASSES]
        times = cost.seconds(calls(images, labels), num_rounds)
        for name, values in times.items():
            method, library = name.split(": ")
            row = rows.setdefault(name, [*method.split(", "), library])
            row += [cost.quartiles(1e3 * values), cost.quartiles(values / times[f"{method}: jaxmix"])]
    print(json.dumps([rows[name] for name in sorted(rows)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
