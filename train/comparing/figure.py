"""The figure of a comparison: differences of measures to the first method, or curves over the amount of data."""

import math
import pathlib
from typing import Any

from train.comparing import design as comparison_lib
from train.measuring.measures import MEASURES
from train.running.figures import BLUE, ORANGE, figure

COLUMNS = 4


def draw(record: comparison_lib.Results, path: pathlib.Path) -> None:
    """Draws curves where data sets differ in their number of training samples, dots for each data set otherwise."""
    if sizes := _sizes(record["design"]["datasets"]):
        _draw_curves(record, sizes, path)
    else:
        _draw_dots(record, path)


def _sizes(datasets: dict[str, Any]) -> dict[str, int]:
    """The numbers of training samples, where data sets differ in that alone of all that is configured of data."""
    data = {title: config.get("data", {}) for title, config in datasets.items()}
    sizes = {title: of.get("num_train", 0) for title, of in data.items()}
    others = [{**of, "num_train": 0} for of in data.values()]
    differ = len(sizes) > 1 and 0 not in sizes.values() and len({*sizes.values()}) == len(sizes)
    return sizes if differ and all(of == others[0] for of in others) else {}


def _draw_curves(record: comparison_lib.Results, sizes: dict[str, int], path: pathlib.Path) -> None:
    """A measure on the left, what methods gain over the first on the right; bars are 95 % confidence intervals."""
    first, *methods = comparison_lib.titles(record)
    key = next(key for key in record["design"]["measures"] if MEASURES[key].better != "none")
    measure = MEASURES[key]
    scale, unit = (100, " in %") if measure.form.endswith("%") else (1, "")
    drawn = figure(9, 3.4)
    left, right = drawn.subplots(1, 2)
    places = sorted(sizes, key=lambda title: sizes[title])
    for number, method in enumerate((first, *methods)):
        column = [comparison_lib.column(record, title, method, key) for title in places]
        gains = [comparison_lib.differences(record, title, method, first, key) for title in places]
        shift = math.exp(0.03 * (number - len(methods) / 2))  # so that bars do not hide one another
        at = [sizes[title] * shift for title in places]
        style = {"color": "black" if not number else f"C{number - 1}", "marker": "o", "markersize": 3, "linewidth": 1}
        for axes, values in ((left, column), (right, gains)):
            if axes is right and not number:
                continue
            means = [scale * comparison_lib.mean_and_error(of)[0] for of in values]
            bars = [scale * comparison_lib.margin(of) for of in values]
            axes.errorbar(at, means, yerr=bars, label=method, **style)
    right.axhline(0, color="black", linewidth=1)
    for axes, title in ((left, f"{measure.title}{unit}"), (right, f"the same, less that of {first}")):
        axes.set(xscale="log", xlabel="training images", title=title)
        axes.set_xticks([sizes[title] for title in places], [f"{sizes[title]:,}" for title in places])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    drawn.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    drawn.savefig(path, dpi=120)


def _draw_dots(record: comparison_lib.Results, path: pathlib.Path) -> None:
    """Dots are mean differences seed by seed, lines 95 % confidence intervals; better is to the right of none."""
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
    note = "better is to the right; lines are 95 % confidence intervals; dots are filled where these leave out zero"
    drawn.supxlabel(f"improvement on {first}: {note}", fontsize=8)
    drawn.savefig(path, dpi=120)


def _draw_measure(axes, record: comparison_lib.Results, dataset: str, key: str) -> None:
    first, *methods = comparison_lib.titles(record)
    measure = MEASURES[key]
    share = measure.form.endswith("%")
    scale = (100 if share else 1) * (1 if measure.better == "higher" else -1)
    for place, method in enumerate(methods):
        difference = comparison_lib.differences(record, dataset, method, first, key)
        mean, _ = comparison_lib.mean_and_error(difference)
        colour = BLUE if scale * mean > 0 else ORANGE
        axes.errorbar(
            scale * mean,
            place,
            xerr=abs(scale) * comparison_lib.margin(difference),
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
