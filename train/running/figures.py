"""Draws the figures of a run."""

from collections.abc import Callable, Mapping, Sequence
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np

from train.running.best import AVERAGED

ORANGE, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"


class Line(NamedTuple):
    """A metric by epoch: of the watched split where its key has a place for that, else of training."""

    key: str
    label: str
    shown: Callable[[float], float] = float


class Panel(NamedTuple):
    """Lines in one picture, of those metrics that a run has."""

    ylabel: str
    lines: Sequence[Line]


def draw_curves(
    rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel], watched: str, title: str, path: pathlib.Path
) -> None:
    """Metrics by epoch, panels beside one another; beside those of the watched split, of averaged parameters, too."""
    from matplotlib.ticker import MaxNLocator

    drawn = figure(4.5 * len(panels), 3.6)
    drawn.suptitle(title, fontsize=10)
    for axes, panel in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        for line in panel.lines:
            key, label = line.key.format(split=watched), line.label.format(split=watched)
            style = {"color": BLUE} if key == line.key else {"color": ORANGE, "linestyle": "--"}
            shown = {key: (label, style)}
            if key != line.key:
                averaged = line.key.replace("{split}_", f"{watched}_{AVERAGED}")
                shown[averaged] = f"{label}, EMA", {"color": GREEN, "linestyle": "-."}
            for key, (label, style) in shown.items():
                if points := [(row["epoch"], line.shown(row[key])) for row in rows if key in row]:
                    axes.plot(*zip(*points, strict=True), label=label, **style)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="epoch", ylabel=panel.ylabel)
        axes.legend(frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=120)


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


def draw_mixed(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, path: pathlib.Path
) -> np.ndarray:
    """Up to 32 images [n, h, w, c] in [0, 1] under their two largest labels; returns the picture [h, w, 3] too."""
    from PIL import Image

    count = min(len(images), 32)
    columns = min(count, 8)
    rows = -(-count // columns)
    height, width = np.array(images.shape[1:3]) * 0.9 / max(images.shape[1:3])
    pitch = height + 0.3
    drawn = figure(1.3 * columns, 1.3 * pitch * rows + 0.4)
    drawn.suptitle(f"what the network sees first: {title}", fontsize=10)
    axes = drawn.subplots()  # one for all of them: each would take as long to lay out as all this to draw
    for place, (image, label) in enumerate(zip(images[:count], labels, strict=False)):
        row, column = divmod(place, columns)
        left, top = column + 0.5 - width / 2, pitch * row
        extent = (left, left + width, top + height, top)
        axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1, extent=extent)
        largest = [c for c in np.argsort(-label)[:2] if label[c] >= 0.005]
        lines = [f"{class_name(class_names, c, 16)}: {label[c]:.0%}" for c in largest]
        caption, size = ("\n".join(lines), 6) if class_names else ("  ".join(lines), 7)
        axes.text(column + 0.5, top - 0.05, caption, fontsize=size, ha="center", va="bottom")
    axes.set(xlim=(0, columns), ylim=(pitch * rows - 0.1, -0.2))
    axes.set_axis_off()
    buffer = io.BytesIO()
    drawn.savefig(buffer, dpi=100, format="png")
    path.write_bytes(buffer.getvalue())
    return np.asarray(Image.open(buffer).convert("RGB"))


def class_name(names: Sequence[str], label: int, most: int) -> str:
    """What figures call a class, in so many characters at most: its number where it has no name."""
    name = names[label] if names else str(label)
    shown = name if len(name) <= most else f"{name[: most - 1]}…"
    hidden = " " if shown.startswith("_") else ""  # else matplotlib leaves it out of legends
    return hidden + shown.replace("$", r"\$")  # else matplotlib reads mathematics


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(empty)
    return empty
