"""What a run says and leaves: progress, metrics.jsonl, curves.png, the closing table."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import pathlib
import statistics
import sys
from typing import Any

import tqdm

from train.config import Config

Row = dict[str, Any]


class Report:
    """A run folder being written, and the progress of the run."""

    def __init__(self, folder: pathlib.Path, config: Config, total_steps: int):
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        self._folder = folder
        self._title = f"{config.data.name}, {config.mix.method}, alpha = {config.mix.alpha}, seed {config.seed}"
        self.rows: list[Row] = []
        self._bar = tqdm.tqdm(total=total_steps, unit="step", disable=not sys.stderr.isatty())

    def step(self, metrics: Mapping[str, Any]) -> float:
        """Waits for the metrics of a step, shows that it is done, and returns its loss."""
        loss = float(metrics["loss"])
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update()
        return loss

    def epoch(self, row: Row) -> None:
        """Writes the metrics of an epoch to the folder and, where there is no bar, as a line."""
        self.rows.append(row)
        with (self._folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self._bar.set_description(f"test accuracy {row['test_accuracy']:.1%}", refresh=False)
        if self._bar.disable:
            print(
                f"epoch {row['epoch']:3d}  loss {row['train_loss']:.4f}  test accuracy {row['test_accuracy']:.2%}  "
                f"nll {row['test_nll']:.4f}  {row['images_per_second']:,.0f} images/s",
                flush=True,
            )

    def close(self) -> None:
        """Draws the curves and prints the closing table."""
        self._bar.close()
        draw_curves(self.rows, self._title, self._folder / "curves.png")
        last = self.rows[-1]
        print(
            table(
                [
                    ("test accuracy", f"{last['test_accuracy']:.2%}"),
                    ("test NLL", f"{last['test_nll']:.4f}"),
                    ("test ECE", f"{last['test_ece']:.4f}"),
                    ("images/s", f"{statistics.median(row['images_per_second'] for row in self.rows):,.0f}"),
                    ("run folder", str(self._folder)),
                ]
            )
        )


def table(rows: Iterable[Sequence[str]]) -> str:
    """Two columns of text."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def draw_curves(rows: Sequence[Row], title: str, path: pathlib.Path) -> None:
    """Loss and test error by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    losses, errors = figure.subplots(1, 2)
    losses.plot(epochs, [row["train_loss"] for row in rows], color="#0072B2", label="training, mixed labels")
    losses.plot(epochs, [row["test_nll"] for row in rows], color="#D55E00", linestyle="--", label="test, true labels")
    losses.set(ylabel="cross-entropy (nats)", ylim=(0, None))
    losses.legend(frameon=False)
    errors.plot(epochs, [100 * (1 - row["test_accuracy"]) for row in rows], color="#D55E00", linestyle="--")
    errors.set(ylabel="test error (%)", ylim=(0, None))
    for axes in (losses, errors):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
