"""Writes the results of the benchmark: a record in JSON, tables in Markdown and a figure."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any, NamedTuple

from train.errors import UsageError
from train.running.figures import BLUE, ORANGE, figure

Cell = str | float | list[float]
"""Text, a number, or the quartiles [lower, median, upper] of one."""

Record = Mapping[str, Any]

TICKS = (0.5, 1, 2, 5, 10, 20, 50)


class Table(NamedTuple):
    """One table of the benchmark.

    Attributes:
      title: what is in it.
      columns: headings, with units; a heading that begins with / is a ratio.
      rows: one cell per column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def read(path: pathlib.Path, topology: str | None) -> dict[str, Any]:
    """A record of the same kind, to be updated."""
    if not path.is_file():
        raise UsageError(f"--update finds no {path}: drop it, or name the record to update by --results")
    record = json.loads(path.read_text())
    if record["topology"] != topology:
        raise UsageError(f"{path} has topology {record['topology']}, not {topology}: name another file by --results")
    return record


def table(record: Record, name: str) -> Table:
    """One table of a record."""
    return Table(*(record["tables"][name][field] for field in Table._fields))


def lines(record: Record, name: str) -> list[str]:
    """One table of a record in Markdown, or, as "caption", what is so of all of them, and by which run each came."""
    if name != "caption":
        found = table(record, name)
        return [f"*{found.title}*", "", *markdown(found)]
    runs: dict[str, list[str]] = {}
    for made, values in record["tables"].items():
        runs.setdefault(_run(values), []).append(f"`{made}`")
    by = "; ".join(f"{', '.join(made)} by {run}" for run, made in runs.items())
    if record.get("topology"):
        return [f"XLA's estimates when it compiles for one TPU of {record['topology']}, without timing anything: {by}."]
    return [
        "Medians over rounds, with quartiles in brackets. Each round times everything in a table once, in a new random "
        f"order. Ratios are taken within a round, except for devices. Made by: {by}."
    ]


def _run(values: Mapping[str, Any]) -> str:
    """What made a table, where, by which version and when."""
    environment, rounds = values["environment"], values["rounds"]
    where = (
        f"libtpu {environment['libtpu']}" if rounds is None else f"{environment['devices']} on {environment['host']}"
    )
    counted = [] if rounds is None else [f"{rounds} rounds"]
    return ", ".join([f"`{values['command']}`", *counted, where, f"jax {environment['jax']}", values["date"]])


def markdown(table: Table) -> list[str]:
    """The lines of a table."""
    rows = [table.columns, ["---"] * len(table.columns), *([_text(cell) for cell in row] for row in table.rows)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list):
        low, middle, high = map(_digits, cell)
        return f"{middle} [{low}, {high}]"
    return _digits(cell)


def _digits(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:,.0f}"


def draw(record: Record, path: pathlib.Path) -> None:
    """Each method's time as a ratio to a copy of the batch, by batch; lines are quartiles."""
    columns, rows = (record["tables"]["methods"][part] for part in ("columns", "rows"))
    batches, methods = [column.removesuffix(", ms") for column in columns[1::2]], [row[0] for row in rows[1:]]
    drawn = figure(2.6 * len(batches) + 1.6, 0.3 * len(methods) + 1.2)
    plots = drawn.subplots(1, len(batches), sharex=True, sharey=True, squeeze=False)[0]
    for place, (axes, batch) in enumerate(zip(plots, batches, strict=True)):
        for i, row in enumerate(rows[1:]):
            low, middle, high = row[2 + 2 * place]
            colour = ORANGE if row[0].endswith("by hand") else BLUE
            axes.errorbar(middle, i, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, markersize=5)
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", ylim=(len(methods) - 0.5, -0.5))
        axes.set_title(batch, fontsize=9)
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(methods)), methods, fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.supxlabel("time, as a ratio to copying the batch (black line); bars span the quartiles", fontsize=8)
    drawn.savefig(path, dpi=120)
