"""Writes a comparison's results: a JSON file, tables, a CSV file and a figure."""

from collections.abc import Sequence
import csv
import dataclasses
import json
import pathlib
import time

from train.comparing import claims
from train.comparing import design as comparison_lib
from train.comparing import figure as comparison_figure
from train.comparing.claims import plain
from train.comparing.design import Comparison, Results, column, differences
from train.errors import UsageError
from train.measuring.measures import MEASURES
from train.running import run_folder


def read(path: pathlib.Path) -> Results:
    """The record of an earlier comparison; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text())
        known = isinstance(record, dict) and {"design", "selection", "runs"} <= record.keys()
    except (OSError, ValueError):
        known = False
    if not known:
        raise UsageError(f"{path} is not a record of a comparison: name another file by --results")
    return record


def write(results: Results, comparison: Comparison, config: str, workdir: pathlib.Path, path: pathlib.Path) -> None:
    """Writes everything, and prints the table.

    Args:
      results: of train.comparing.experiments.compare.
      comparison: what was compared.
      config: the flags that name it, for the command.
      workdir: for table.md, runs.csv and differences.png.
      path: for the JSON file.
    """
    here = comparison_lib.placed(comparison, data_dir="", manual_dir="")  # where data lie is nobody's business
    record = {
        "command": f"python -m train.compare {config}".strip(),
        "date": time.strftime("%Y-%m-%d"),
        "environment": run_folder.environment(),
        "design": json.loads(json.dumps(dataclasses.asdict(here))),
        **results,
    }
    text = "\n".join([*tables(record), "", *claims.lines([record])]).strip()
    for folder in (path.parent, workdir):
        folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(path, record)
    (workdir / "table.md").write_text(text + "\n")
    with (workdir / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "method", "alpha", "seed", *comparison.measures])
        for run in results["runs"]:
            cells = [run["values"][key] for key in comparison.measures]
            writer.writerow([run["dataset"], run["method"], run["alpha"], run["seed"], *cells])
    comparison_figure.draw(record, workdir / "differences.png")
    print(text)
    print(f"\n{path}, {workdir / 'table.md'}, {workdir / 'runs.csv'}, {workdir / 'differences.png'}")


def tables(record: Results) -> list[str]:
    """The lines of a record's tables in Markdown: measures by method, and accuracy by corruption."""
    design = record["design"]
    datasets, keys = design["datasets"], design["measures"]
    shown = design.get("shown") or keys
    lines = [*_by_method(record, shown, costs=True), "", _caption(record)]
    if others := [key for key in keys if key not in shown]:
        lines += ["", *_by_method(record, others)]
    if design.get("by_corruption"):
        for dataset in datasets:
            lines += ["", *_by_corruption(record, dataset, dataset if len(datasets) > 1 else "corruption")]
    return lines


def _by_method(record: Results, keys: Sequence[str], *, costs: bool = False) -> list[str]:
    """Measures, and what a step costs, a row for each method on each data set."""
    design, methods = record["design"], comparison_lib.titles(record)
    datasets = design["datasets"]
    arrows = {"higher": "↑", "lower": "↓", "none": ""}
    titles = [f"{MEASURES[key].title} {arrows[MEASURES[key].better]}".strip() for key in keys]
    titles += [f"step / {methods[0]}"] if costs else []
    has_policies = "policy" in record["runs"][0]  # records from before have alpha in its place
    first = [*(("data",) if len(datasets) > 1 else ()), "method", "policy" if has_policies else "alpha"]
    lines = ["| " + " | ".join([*first, *titles]) + " |", "|---" * (len(first) + len(titles)) + "|"]
    for dataset in datasets:
        for method in methods:
            runs = [run for run in record["runs"] if (run["dataset"], run["method"]) == (dataset, method)]
            erm = design["methods"].get(method, {}).get("method") == "erm"
            alpha = "" if erm or runs[0]["alpha"] is None else f"{runs[0]['alpha']:g}"
            what = f"`{runs[0]['policy']}`" if has_policies else alpha
            cells = [_cell(record, dataset, method, methods[0], key) for key in keys]
            cells += [_cost(record, dataset, method) if method != methods[0] else "1"] if costs else []
            lines.append("| " + " | ".join([*((dataset,) if len(datasets) > 1 else ()), method, what, *cells]) + " |")
    return lines


def _by_corruption(record: Results, dataset: str, heading: str) -> list[str]:
    """Accuracy under each corruption, mean over its severities, in %."""
    baseline, methods = comparison_lib.titles(record)[0], record["design"]["by_corruption"]
    runs = (run for run in record["runs"] if run["dataset"] == dataset)
    names = next(run["corruptions"] for run in runs if "corruptions" in run)
    lines = ["| " + " | ".join([heading, *methods]) + " |", "|---" * (len(methods) + 1) + "|"]
    for name in names:
        cells = []
        for method in methods:
            against = differences(record, dataset, method, baseline, name, "corruptions")
            cells.append(_marked("corrupted_accuracy", column(record, dataset, method, name, "corruptions"), against))
        lines.append("| " + " | ".join([name.replace("_", " "), *cells]) + " |")
    return lines


def _cell(record: Results, dataset: str, method: str, baseline: str, key: str) -> str:
    against = differences(record, dataset, method, baseline, key)
    return _marked(key, column(record, dataset, method, key), against)


def _marked(key: str, values: list[float], against: list[float]) -> str:
    """Mean and standard error; bold where significantly better than the baseline, in italics where worse.

    Args:
      key: of the measure.
      values: by seed.
      against: their differences to the baseline's.
    """
    mean, error = comparison_lib.mean_and_error(values)
    text = f"{plain(key, mean)} ± {plain(key, error, signed=False)}"
    if MEASURES[key].better == "none":
        return text
    return {1: f"**{text}**", 0: text, -1: f"*{text}*"}[comparison_lib.counts(against, MEASURES[key].better)]


def _cost(record: Results, dataset: str, method: str) -> str:
    """Of a training step; a rescaled row has none of its own."""
    if method not in record["cost"][dataset]:
        return ""
    low, middle, high = record["cost"][dataset][method]
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _caption(record: Results) -> str:
    design = record["design"]
    limit = f" Corruptions, attacks and linearity: the first {design['limit']} test images." if design["limit"] else ""
    first = next(iter(design["methods"]))
    tried = ", ".join(f"{alpha:g}" for alpha in design["alphas"])
    chosen = (
        f" Alpha is the best of {tried} by accuracy, then NLL, on the validation split, mean of "
        f"{design['num_selection_seeds']} further seed(s)."
    )
    return (
        f"Mean ± standard error over {design['num_seeds']} seeds, accuracies in %; **bold** is significantly better "
        f"than {first}, *italics* worse (paired t-test by seed, 5 %).{chosen if tried else ''}"
        f"{limit} `{record['command']}`, {_origin(record)}."
    )


def _origin(record: Results) -> str:
    """Where and when its runs were made: of each, or in older records of all together."""
    of_all = record["environment"] | {"date": record["date"]}
    origins = [run if "devices" in run else of_all for run in record["runs"]]
    texts = (
        ", ".join(
            [f"{at['devices']} on {at['host']}, jax {at['jax']}", at["date"], *filter(None, [at.get("commit", "")])]
        )
        for at in origins
    )
    return "; ".join(dict.fromkeys(texts))
