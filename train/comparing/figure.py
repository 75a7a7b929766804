"""The figure of a comparison: every measure's difference to the first method."""

import pathlib

from train.comparing import design as comparison_lib
from train.measuring.measures import MEASURES
from train.running.figures import BLUE, ORANGE, figure

COLUMNS = 4


def draw(record: comparison_lib.Results, path: pathlib.Path) -> None:
    """Dots are mean differences seed by seed, lines two standard errors; better is to the right of none."""
    design = record["design"]
    first, *methods = comparison_lib.titles(record)
    keys = [key for key in design["measures"] if MEASURES[key].better != "none"]
    columns = min(COLUMNS, len(keys))
    parts = [keys[start : start + columns] for start in range(0, len(keys), columns)]
    rows = [(dataset, part) for dataset in design["datasets"] for part in parts]
    drawn = figure(2.2 * columns + 1.4, (0.28 * len(methods) + 0.75) * len(rows) + 0.5)
    for axes_of_row, (dataset, part) in zip(drawn.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes, key in zip(axes_of_row, part, strict=False):
            _draw_measure(axes, record, dataset, key)
        for axes in axes_of_row[len(part) :]:
            axes.set_axis_off()
        axes_of_row[0].set_yticks(range(len(methods)), methods, fontsize=8)
        if len(design["datasets"]) > 1:
            axes_of_row[0].set_ylabel(dataset, fontsize=8)
    note = "better is to the right; lines are two standard errors, dots beyond them are filled"
    drawn.supxlabel(f"improvement on {first}: {note}", fontsize=8)
    drawn.savefig(path, dpi=120)


def _draw_measure(axes, record: comparison_lib.Results, dataset: str, key: str) -> None:
    first, *methods = comparison_lib.titles(record)
    measure = MEASURES[key]
    share = measure.form.endswith("%")
    scale = (100 if share else 1) * (1 if measure.better == "higher" else -1)
    for place, method in enumerate(methods):
        difference = comparison_lib.differences(record, dataset, method, first, key)
        mean, error = comparison_lib.mean_and_error(difference)
        colour = BLUE if scale * mean > 0 else ORANGE
        axes.errorbar(
            scale * mean,
            place,
            xerr=abs(2 * scale * error),
            fmt="o",
            color=colour,
            markerfacecolor=colour if comparison_lib.counts(difference, measure.better) else "white",
            markersize=5,
        )
    axes.axvline(0, color="black", linewidth=1)
    axes.set(ylim=(len(methods) - 0.5, -0.5))
    axes.set_yticks(range(len(methods)), [""] * len(methods))
    axes.set_title(f"{measure.title} (points)" if share else measure.title, fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
