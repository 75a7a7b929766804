"""Writes the results of the benchmark: a record in JSON, tables in Markdown and a figure."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any, NamedTuple

from train.running.figures import BLUE, ORANGE, figure

Cell = str | float | list[float]
"""Text, a number, or the quartiles [lower, median, upper] of one."""

Record = Mapping[str, Any]

TICKS = (0.5, 1, 2, 5, 10, 20)


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


def lines(record: Record, name: str) -> list[str]:
    """One table of a record in Markdown, or, as "caption", what is so of all of them."""
    if name != "caption":
        return markdown(Table(**record["tables"][name]))
    environment = record["environment"]
    if record.get("topology"):
        return [
            f"What XLA reckons when it compiles for one TPU of {record['topology']}; nothing of this was timed. "
            f"`{record['command']}`, libtpu {environment['libtpu']}, jax {environment['jax']}, {record['date']}."
        ]
    return [
        f"Medians of {record['rounds']} rounds, in each of which everything of a table is timed once in an order drawn "
        "anew, and in brackets the quartiles; ratios are taken within a round, but for devices. "
        f"`{record['command']}`, {environment['devices']} on {environment['host']}, jax {environment['jax']}, "
        f"{record['date']}."
    ]


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
    batches, methods = (list(dict.fromkeys(row[i] for row in rows)) for i in (0, 1))
    place, methods = columns.index("/ copy"), methods[1:]
    drawn = figure(2.6 * len(batches) + 1.6, 0.3 * len(methods) + 1.2)
    for axes, batch in zip(
        drawn.subplots(1, len(batches), sharex=True, sharey=True, squeeze=False)[0], batches, strict=True
    ):
        for row in rows:
            if row[0] == batch and row[1] in methods:
                low, middle, high = row[place]
                colour = ORANGE if row[1].endswith("by hand") else BLUE
                spread = [[middle - low], [high - middle]]
                axes.errorbar(middle, methods.index(row[1]), xerr=spread, fmt="o", color=colour, markersize=5)
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", ylim=(len(methods) - 0.5, -0.5))
        axes.set_title(batch, fontsize=9)
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(methods)), methods, fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.supxlabel("time, as a ratio to copying the batch (black line); lines are quartiles", fontsize=8)
    drawn.savefig(path, dpi=120)
