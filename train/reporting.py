"""What a run says and leaves: its folder, progress, metrics.jsonl, TensorBoard events, figures, the closing table."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from importlib import metadata
import json
import os
import pathlib
import platform
import re
import statistics
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from train import figures
from train.config import INCIDENTAL, UsageError, leaves, read

Row = dict[str, Any]


class Column(NamedTuple):
    """A number by its key, as it is headed and formatted."""

    key: str
    title: str
    form: str


class Display(NamedTuple):
    """How runs of one kind are shown.

    Attributes:
      columns: measures of splits in the closing table; the line of an epoch has the first two.
      training: metrics of training in the line of an epoch, besides the loss, of those that a run has.
      panels: of the curves.
    """

    columns: Sequence[Column]
    training: Sequence[Column]
    panels: Sequence[figures.Panel]


def open_folder(folder: pathlib.Path, config: Any) -> None:
    """Makes the folder of a new run, or checks that the run in it is the one to go on with."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / "config.json"
        if written.exists():
            _same_run(folder, config)
        elif any(path.name != "environment.json" and path.suffix != ".partial" for path in folder.iterdir()):
            raise UsageError(f"{folder} holds something else than a run: name another folder by --workdir")
        write_json(folder / "environment.json", environment())
        write_json(written, dataclasses.asdict(config))  # last: it marks the folder as a run's
    except OSError as error:
        raise UsageError(f"cannot write the run folder {folder}: {error.strerror}") from None


def finished(folder: pathlib.Path, config: Any) -> Row | None:
    """The metrics of the last epoch where this run has ended in this folder, else None."""
    if not (folder / "config.json").exists():
        return None
    _same_run(folder, config)
    rows = _rows(folder / "metrics.jsonl")
    ended = rows and rows[-1]["epoch"] == config.num_epochs
    return rows[-1] if ended and (folder / "checkpoints" / str(rows[-1]["step"])).is_dir() else None


def _rows(path: pathlib.Path) -> list[Row]:
    """The lines of metrics.jsonl but for a torn last one; none without the file."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def sees_folder(folder: pathlib.Path) -> None:
    """Raises a UsageError in a process that does not see what the leading one has written."""
    if not (folder / "config.json").exists():
        raise UsageError(f"{folder} is not the run folder of all processes: name one on storage that they share")


def _same_run(folder: pathlib.Path, config: Any) -> None:
    """Raises a UsageError where the run in a folder is another one; a field that it does not know had its default."""
    before = {name: value for name, value, _ in leaves(read(folder / "config.json", type(config)))}
    now = {name: value for name, value, _ in leaves(config)}
    changed = [name for name in now if name not in INCIDENTAL and before[name] != now[name]]
    if changed:
        difference = ", ".join(f"{name}={before[name]} there and {now[name]} here" for name in changed)
        raise UsageError(f"{folder} holds another run, with {difference}: name another folder by --workdir")
    devices = json.loads((folder / "environment.json").read_text())["devices"]
    if devices != environment()["devices"]:
        print(f"this run was on {devices}; partners depend on that, so it ends otherwise than it would have there")


def write_json(path: pathlib.Path, content: Any) -> None:
    """All or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def environment() -> dict[str, str]:
    """Versions and devices."""
    packages = ("jax", "jaxlib", "flax", "optax", "ott-jax", "orbax-checkpoint")
    versions = {name: metadata.version(name) for name in packages}
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} process(es)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    host = f"{platform.machine()}, {cores} core(s)"
    return {"python": platform.python_version(), **versions, "devices": devices, "host": host}


class Report:
    """A run folder being written, and the progress of the run; silent in all processes but the leading one."""

    def __init__(self, folder: pathlib.Path, title: str, display: Display, *, step: int, total_steps: int, leads: bool):
        self._folder, self._title, self._display, self._leads = folder, title, display, leads
        self.rows: list[Row] = []
        self._bar = tqdm.tqdm(
            total=total_steps, initial=step, unit="step", disable=not leads or not sys.stderr.isatty()
        )
        if not leads:
            return
        import tensorboardX

        self._events = tensorboardX.SummaryWriter(str(folder / "events"), purge_step=step + 1)
        self._keep_rows_until(step)

    def _keep_rows_until(self, step: int) -> None:
        """Drops what a stopped run wrote after its last checkpoint, a torn last line included."""
        path = self._folder / "metrics.jsonl"
        if path.exists():
            self.rows = [row for row in _rows(path) if row["step"] <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            os.replace(partial, path)

    def inputs(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Shows what the network sees: mixed images [n, h, w, c] in [0, 1], labels [n, classes]."""
        picture = figures.draw_mixed(images, labels, self._title, self._folder / "inputs.png")
        self._events.add_image("inputs", picture, 0, dataformats="HWC")

    def step(self, step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Waits for the metrics of a step, writes them, shows that it is done, and returns them as numbers."""
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if self._leads:
            for name, value in values.items():
                self._events.add_scalar(f"train/step_{name}", value, step)
            self._bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            self._bar.update()
        return values

    def epoch(self, row: Row, *, watched: str) -> None:
        """Writes the metrics of an epoch to the folder and, where there is no bar, as a line.

        Args:
          row: the metrics by name.
          watched: the split that is measured after every epoch.
        """
        self.rows.append(row)
        if not self._leads:
            return
        with (self._folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self._events.add_scalar(re.sub("^(train|validation|test)_", r"\1/", name), value, row["step"])
        self._events.flush()
        first, second = (
            f"{column.key} {row[f'{watched}_{column.key}']:{column.form}}" for column in self._display.columns[:2]
        )
        training = [
            f"{column.title} {row[f'train_{column.key}']:{column.form}}"
            for column in self._display.training
            if f"train_{column.key}" in row
        ]
        self._bar.set_description(f"{watched} {first}", refresh=False)
        if self._bar.disable:
            loss, speed = f"loss {row['train_loss']:.4f}", f"{row['images_per_second']:,.0f} images/s"
            print(
                f"epoch {row['epoch']:3d}", loss, *training, f"{watched} {first}", second, speed, sep="  ", flush=True
            )

    def close(self, *, watched: str) -> None:
        """Draws the curves and prints the closing table."""
        self._bar.close()
        if not self._leads:
            return
        self._events.close()
        figures.draw_curves(self.rows, self._display.panels, watched, self._title, self._folder / "curves.png")
        last, splits = self.rows[-1], dict.fromkeys((watched, "test"))
        lines = [
            (f"{split} {column.title}", f"{last[f'{split}_{column.key}']:{column.form}}")
            for split in splits
            for column in self._display.columns
        ]
        speed = statistics.median(row["images_per_second"] for row in self.rows)
        print(table([*lines, ("images/s", f"{speed:,.0f}"), ("run folder", str(self._folder))]))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Two columns of text."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)
