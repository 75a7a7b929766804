"""The figures that a run leaves."""

from collections.abc import Mapping, Sequence
import io
import pathlib
from typing import Any

import numpy as np

ORANGE, BLUE = "#D55E00", "#0072B2"


def draw_curves(rows: Sequence[Mapping[str, Any]], watched: str, title: str, path: pathlib.Path) -> None:
    """Loss and error by epoch."""
    from matplotlib.ticker import MaxNLocator

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
    for axes in (losses, errors):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=120)


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
