"""Reports on a run: progress, rows of metrics, TensorBoard events, figures and a closing table."""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import math
import pathlib
import re
import statistics
import sys
import textwrap
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from train.running import figures, run_folder
from train.running.best import AVERAGED
from train.running.run_folder import Row


class Column(NamedTuple):
    """A number by its key, as it is headed and formatted."""

    key: str
    title: str
    form: str


class Display(NamedTuple):
    """How to show runs of one kind.

    Attributes:
      columns: measures of splits in the closing table; an epoch's line has the first two.
      training: training metrics in an epoch's line besides the loss, if the run has them.
      panels: panels of the curves.
    """

    columns: Sequence[Column]
    training: Sequence[Column]
    panels: Sequence[figures.Panel]


class Report:
    """Writes a run folder and shows the run's progress, in the leading process only."""

    def __init__(self, folder: pathlib.Path, title: str, display: Display, *, step: int, total_steps: int, leads: bool):
        self._folder, self._display, self._leads = folder, display, leads
        self._title = textwrap.fill(title, 90)
        self.rows: list[Row] = []
        self._spoke = time.monotonic()
        self._bar = tqdm.tqdm(
            total=total_steps, initial=step, unit="step", disable=not leads or not sys.stderr.isatty()
        )
        if not leads:
            return
        import tensorboardX

        self._events = tensorboardX.SummaryWriter(str(folder / "events"), purge_step=step + 1)
        self.rows = run_folder.keep_rows_until(folder, step)

    def inputs(self, images: np.ndarray, labels: np.ndarray, *, class_names: Sequence[str]) -> None:
        """Shows what the network sees: mixed images [n, h, w, c] in [0, 1], labels [n, classes]."""
        picture = figures.draw_mixed(images, labels, class_names, self._title, self._folder / "inputs.png")
        self._events.add_image("inputs", picture, 0, dataformats="HWC")

    def step(self, step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Waits for the metrics of a step, writes them, shows that it is done, and returns them as numbers."""
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if self._leads:
            for name, value in values.items():
                self._events.add_scalar(f"train/step_{name}", value, step)
            if self._bar.disable and time.monotonic() - self._spoke > 60:
                self._say(f"step {step} of {self._bar.total}  loss {values['loss']:.4f}")
            self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            self._bar.update()
        return values

    def epoch(self, row: Row, *, watched: str) -> None:
        """Writes the metrics of an epoch to the folder and, where there is no bar, as a line.

        Args:
          row: the metrics by name.
          watched: the split that is measured while it trains.
        """
        self.rows.append(row)
        if not self._leads:
            return
        run_folder.add_row(self._folder, row)
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._events.add_scalar(re.sub("^(train|validation|test)_", r"\1/", name), value, row["step"])
        self._events.flush()
        measured = [
            f"{column.key} {row[f'{watched}_{column.key}']:{column.form}}"
            for column in self._display.columns[:2]
            if f"{watched}_{column.key}" in row
        ]
        training = [
            f"{column.title} {row[f'train_{column.key}']:{column.form}}"
            for column in self._display.training
            if f"train_{column.key}" in row
        ]
        if measured:
            measured[0] = f"{watched} {measured[0]}"
            self._bar.set_description(measured[0], refresh=False)
        measured += [
            f"EMA {column.key} {row[f'{watched}_{AVERAGED}{column.key}']:{column.form}}"
            for column in self._display.columns[:2]
            if f"{watched}_{AVERAGED}{column.key}" in row
        ]
        if self._bar.disable:
            loss = f"loss {row['train_loss']:.4f}"
            speed = [f"{row['images_per_second']:,.0f} images/s"] if "images_per_second" in row else []
            skipped = [f"{row['skipped_steps']} steps skipped, not finite"] if row["skipped_steps"] else []
            self._say(f"epoch {row['epoch']:3d}", loss, *training, *measured, *speed, *skipped)

    def _say(self, *parts: str) -> None:
        """Prints a line where there is no bar: a log is never silent for long."""
        print(*parts, sep="  ", flush=True)
        self._spoke = time.monotonic()

    def close(self, *, watched: str, best: tuple[str, int]) -> None:
        """Draws the curves and prints the closing table.

        Args:
          watched: the split that was measured while it trained.
          best: the measure by which a checkpoint was kept as the best, and its step; empty and 0 where none was.
        """
        self._bar.close()
        if not self._leads:
            return
        self._events.close()
        figures.draw_curves(self.rows, self._display.panels, watched, self._title, self._folder / "curves.png")
        last, splits = self.rows[-1], dict.fromkeys((watched, "test"))
        lines = [
            (f"{split} {title}{column.title}", f"{last[f'{split}_{prefix}{column.key}']:{column.form}}")
            for split in splits
            for prefix, title in (("", ""), (AVERAGED, "EMA "))
            for column in self._display.columns
            if f"{split}_{prefix}{column.key}" in last
        ]
        lines += self._best(*best)
        if skipped := sum(row["skipped_steps"] for row in self.rows):
            lines.append(("steps skipped", f"{skipped}, whose loss or gradient was not finite"))
        if speeds := [row["images_per_second"] for row in self.rows if "images_per_second" in row]:
            lines.append(("images/s", f"{statistics.median(speeds):,.0f}"))
        print(table([*lines, ("run folder", str(self._folder))]))

    def _best(self, measure: str, step: int) -> list[tuple[str, str]]:
        """The line of the best checkpoint, where one is kept."""
        key = f"validation_{measure}"
        forms = {column.key: column.form for column in self._display.columns}
        return [
            (
                f"best by {measure}",
                f"{row[key]:{forms[measure.removeprefix(AVERAGED)]}} in epoch {row['epoch']}, step {step}",
            )
            for row in self.rows
            if measure and row["step"] == step and key in row
        ]


class Epoch:
    """What the steps of an epoch measure; each is read while the next one runs.

    Args:
      report: what hears of each step.
      metrics: of the steps before, where a run goes on in the middle of an epoch.
      compiled: whether the step has been taken before, so that the first one need not be compiled.
    """

    def __init__(self, report: Report, metrics: list[dict[str, float]], *, compiled: bool):
        self._report, self._metrics, self._compiled = report, metrics, compiled
        self._unread: tuple[int, Mapping[str, Any]] | None = None
        self._read_at = [time.perf_counter()]

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of a step, which may still be running, and waits for those of the step before."""
        self.read()
        self._unread = step, metrics

    def read(self) -> list[dict[str, float]]:
        """Waits for the last step, and returns the metrics of all of them."""
        if self._unread:
            self._metrics.append(self._report.step(*self._unread))
            self._read_at.append(time.perf_counter())
            self._unread = None
        return self._metrics

    @property
    def skipped_in_a_row(self) -> int:
        """How many of the last steps that were read changed nothing."""
        return sum(1 for _ in itertools.takewhile(lambda row: row["skipped"], reversed(self._metrics)))

    def row(self, batch_size: int) -> Row:
        """Means over the steps that were not skipped, NaN where all were, their number and the speed.

        The speed is without the first step where that was compiled, and left out where there was no other.
        """
        metrics = self.read()
        taken = [row for row in metrics if not row["skipped"]]
        means = {
            f"train_{name}": statistics.fmean(row[name] for row in taken) if taken else math.nan
            for name in metrics[0]
            if name != "skipped"
        }
        times = self._read_at if self._compiled else self._read_at[1:]
        timed = len(times) - 1
        speed = {"images_per_second": timed * batch_size / (times[-1] - times[0])} if timed > 0 else {}
        return {**means, "skipped_steps": len(metrics) - len(taken), **speed}


def table(rows: Iterable[Sequence[str]]) -> str:
    """Two columns of text."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)
