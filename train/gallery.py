"""Draws a batch of photographs and its mixes by each method.

Usage: python -m train.gallery [FILE]

Uses squares of the two photographs that scikit-learn ships. FILE is .github/gallery.jpg by
default.
"""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from train.running import figures

NUM_SHOWN = 4
METHODS: dict[str, jaxmix.MixFn] = {
    "mixup": jaxmix.mixup,
    "cutmix": jaxmix.cutmix,
    "hmix": jaxmix.hmix,
    "gmix": jaxmix.gmix,
    "resizemix": jaxmix.resizemix,
    "saliencymix": jaxmix.saliencymix,
    "attentivemix": jaxmix.attentivemix,
    "fmix": jaxmix.fmix,
    "gridmix": jaxmix.gridmix,
    "smoothmix": jaxmix.smoothmix,
    "kmixup\nk = 16": functools.partial(jaxmix.kmixup, k=16),
    "cutmix\ntransport\nk = 16": functools.partial(
        jaxmix.cutmix, pairing=functools.partial(jaxmix.pairings.transport, k=16)
    ),
}


def photographs(n: int = 64, size: int = 160, seed: int = 2) -> np.ndarray:
    """Squares cut from two photographs at random places, [n, size / 2, size / 2, 3] uint8."""
    from sklearn import datasets

    rng = np.random.default_rng(seed)
    photos = datasets.load_sample_images().images
    squares = []
    for i in range(n):
        photo = photos[i % len(photos)]
        y, x = rng.integers(0, photo.shape[0] - size), rng.integers(0, photo.shape[1] - size)
        squares.append(photo[y : y + size : 2, x : x + size : 2])
    return np.stack(squares)


def draw(path: pathlib.Path) -> None:
    """Writes the picture."""
    batch = jnp.asarray(photographs())
    labels = jnp.eye(len(batch))
    mixed = {name: fn(batch, labels, jax.random.key(4)) for name, fn in METHODS.items()}
    names = list(mixed)
    halves = [["batch", *names[: len(names) // 2]], ["batch", *names[len(names) // 2 :]]]
    drawn = figures.figure(2 * (1.25 * NUM_SHOWN + 1.3), 1.45 * max(map(len, halves)))
    for column, half in zip(drawn.subfigures(1, 2), halves, strict=True):
        grid = column.subplots(len(half), NUM_SHOWN)
        for axes_of_row, name in zip(grid, half, strict=True):
            images, shares = mixed.get(name, (batch, labels))
            for i, axes in enumerate(axes_of_row):
                axes.imshow(images[i])
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if name != "batch":
                    axes.set_xlabel(f"{shares[i, i]:.0%} own", fontsize=10, labelpad=2)
            axes_of_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12, labelpad=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=90, pil_kwargs={"quality": 85} if path.suffix == ".jpg" else None)


if __name__ == "__main__":
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        sys.exit(__doc__)
    draw(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".github/gallery.jpg"))
