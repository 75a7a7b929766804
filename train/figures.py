"""The figures that a run leaves."""

from collections.abc import Mapping, Sequence
import io
import pathlib
from typing import Any

import numpy as np

ORANGE, BLUE = "#D55E00", "#0072B2"


def draw_curves(rows: Sequence[Mapping[str, Any]], watched: str, title: str, path: pathlib.Path) -> None:
    """Loss and error by epoch."""
    drawn = figure(9, 3.6)
    drawn.suptitle(title, fontsize=10)
    epochs = [row["epoch"] for row in rows]
    losses, errors = drawn.subplots(1, 2)
    losses.plot(epochs, [row["train_loss"] for row in rows], color=BLUE, label="training, mixed labels")
    losses.plot(
        epochs, [row[f"{watched}_nll"] for row in rows], color=ORANGE, linestyle="--", label=f"{watched}, true labels"
    )
    losses.set(ylabel="cross-entropy (nats)", ylim=(0, None))
    losses.legend(frameon=False)
    for key, color, style, label in (
        ("train_clean_accuracy", BLUE, "-", "training, not mixed"),
        (f"{watched}_accuracy", ORANGE, "--", watched),
    ):
        if points := [(row["epoch"], 100 * (1 - row[key])) for row in rows if key in row]:
            errors.plot(*zip(*points, strict=True), color=color, linestyle=style, label=label)
    errors.set(ylabel="error (%)", ylim=(0, None))
    errors.legend(frameon=False)
    _finish(losses, errors)
    drawn.savefig(path, dpi=120)


def draw_vae_curves(rows: Sequence[Mapping[str, Any]], watched: str, title: str, path: pathlib.Path) -> None:
    """The terms of a VAE's loss by epoch."""
    drawn = figure(9, 3.6)
    drawn.suptitle(title, fontsize=10)
    epochs = [row["epoch"] for row in rows]
    errors, divergences = drawn.subplots(1, 2)
    errors.plot(epochs, [row["train_reconstruction"] for row in rows], color=BLUE, label="training, sampled latents")
    errors.plot(
        epochs,
        [row[f"{watched}_reconstruction"] for row in rows],
        color=ORANGE,
        linestyle="--",
        label=f"{watched}, mean latents",
    )
    errors.set(ylabel="squared error per image", ylim=(0, None))
    errors.legend(frameon=False)
    divergences.plot(epochs, [row["train_mmd"] for row in rows], color=BLUE)
    divergences.axhline(0, color="0.6", linewidth=0.8)
    divergences.set(ylabel="squared MMD of latents to their prior")
    _finish(errors, divergences)
    drawn.savefig(path, dpi=120)


def _finish(*cells: Any) -> None:
    """The axes of epochs."""
    from matplotlib.ticker import MaxNLocator

    for axes in cells:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)


def draw_sheet(
    rows: Mapping[str, np.ndarray], captions: Mapping[str, Sequence[str]], title: str, path: pathlib.Path
) -> None:
    """Rows of images [n, h, w, c] in [0, 1] beside their names, some under captions."""
    columns = max(map(len, rows.values()))
    drawn = figure(0.9 * columns + 1.6, 0.95 * len(rows) + 0.4)
    drawn.suptitle(title, fontsize=10)
    for cells, (name, images) in zip(drawn.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True):
        for axes, image in zip(cells, images, strict=False):
            axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
        for axes, caption in zip(cells, captions.get(name, ()), strict=False):
            axes.set_title(caption, fontsize=8)
        for axes in cells:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        cells[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)
    drawn.savefig(path, dpi=110)


def draw_mixed(images: np.ndarray, labels: np.ndarray, title: str, path: pathlib.Path) -> np.ndarray:
    """Up to 32 images [n, h, w, c] in [0, 1] under their two largest labels; returns the picture [h, w, 3] too."""
    from PIL import Image

    count = min(len(images), 32)
    columns = min(count, 8)
    rows = -(-count // columns)
    drawn = figure(1.3 * columns, 1.55 * rows + 0.4)
    drawn.suptitle(f"what the network sees first: {title}", fontsize=10)
    for axes, image, label in zip(drawn.subplots(rows, columns, squeeze=False).flat, images, labels, strict=False):
        axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
        largest = [c for c in np.argsort(-label)[:2] if label[c] >= 0.005]
        axes.set_title("  ".join(f"{c}: {label[c]:.0%}" for c in largest), fontsize=7)
    for axes in drawn.axes:
        axes.set_axis_off()
    buffer = io.BytesIO()
    drawn.savefig(buffer, dpi=100, format="png")
    path.write_bytes(buffer.getvalue())
    return np.asarray(Image.open(buffer).convert("RGB"))


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty
