"""Writes the results of an evaluation: report.json, report.md and figures."""

import json
import math
import pathlib
import sys
import time
from typing import Any

import numpy as np

from train import config
from train.measuring import figures as evaluation_figures
from train.measuring.measures import MEASURES
from train.measuring.sections import PROBABILITIES, ZERO_GRADIENTS, Section
from train.running import reporting, run_folder


def write(out: pathlib.Path, run: pathlib.Path, sections: dict[str, Section], command: str) -> None:
    """Writes the report into a folder and prints its table.

    Args:
      out: the folder, made here.
      run: the folder of the run that was measured.
      sections: the sections of the evaluation.
      command: the command that made it.
    """
    report = {
        "run": str(run),
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "environment": run_folder.environment(),
        "sections": {name: as_json(section) for name, section in sections.items()},
    }
    title = config.read(run / "config.json", config.Config).title
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "report.md").write_text(_markdown(report, sections))
    for name, section in sections.items():
        if name in evaluation_figures.FIGURES:
            evaluation_figures.FIGURES[name](section, title, out / f"{name}.png")
    rows = [(MEASURES[key].title, formatted(key, value)) for s in sections.values() for key, value in s.values.items()]
    for warning in warnings(sections):
        print(f"warning: {warning}", file=sys.stderr)
    print(reporting.table([*rows, ("report", str(out / "report.md"))]))


def warnings(sections: dict[str, Section]) -> list[str]:
    """Returns warnings about numbers that may mislead."""
    found = []
    if attacked := sections.get("attacks"):
        zero = attacked.settings[ZERO_GRADIENTS]
        if zero > 0.01:
            found.append(f"{zero:.0%} of the samples have a zero gradient, which hides them from attacks")
        accuracy = attacked.details["accuracy"]
        if any(pgd > fgsm + 0.02 for pgd, fgsm in zip(accuracy["pgd"], accuracy["fgsm"], strict=True)):
            found.append("PGD is weaker than FGSM: something hides gradients from its steps")
        if attacked.settings[PROBABILITIES]:
            found.append("the outputs look like probabilities; attacks want logits")
    if "calibration" in sections and math.isnan(sections["calibration"].values["temperature"]):
        found.append(
            "no temperature is the best one for the held-out samples, which are too few, too easy or too hard: "
            "nothing is scaled"
        )
    return found


def formatted(key: str, value: float) -> str:
    """A number as its measure is printed."""
    return "not determined" if math.isnan(value) else f"{value:{MEASURES[key].form}}"


def as_json(section: Section) -> dict[str, Any]:
    """A section's numbers with their definitions, its settings, and its tables; not its samples."""
    values = {
        key: {"value": None if math.isnan(value) else value, "definition": MEASURES[key].definition}
        for key, value in section.values.items()
    }
    tables = {
        name: table for name, table in section.details.items() if isinstance(table, dict) and not _of_samples(table)
    }
    return {"values": values, "settings": section.settings, **tables}


def _of_samples(table: dict[str, Any]) -> bool:
    return any(isinstance(value, np.ndarray) for value in table.values())


def _markdown(report: dict[str, Any], sections: dict[str, Section]) -> str:
    lines = [f"# {report['run']}", "", f"`{report['command']}`, {report['date']}, {report['environment']['devices']}"]
    for name, section in sections.items():
        lines += ["", f"## {name}", "", "| measure | value | definition |", "|---|---|---|"]
        lines += [
            f"| {MEASURES[key].title} | {formatted(key, value)} | {MEASURES[key].definition} |"
            for key, value in section.values.items()
        ]
        lines += [f"\nWarning: {warning}." for warning in warnings({name: section})]
        lines += ["", "; ".join(f"{key}: {value}" for key, value in section.settings.items()) + "."]
        if name in evaluation_figures.FIGURES:
            lines += ["", f"![{name}]({name}.png)"]
        if "detection" in section.details:
            lines += ["", *_detection(section.details["detection"])]
        elif "rescaling" in section.details:
            lines += ["", *_rescaling(section.details["rescaling"])]
        elif "epsilons" in section.details:
            accuracy = section.details["accuracy"]
            rows = {name: [*accuracy["clean"], *accuracy[name]] for name in ("fgsm", "pgd")}
            lines += ["", *_accuracies(rows, [f"{epsilon}/255" for epsilon in (0, *section.details["epsilons"])])]
        elif "accuracy" in section.details:
            heads = [f"severity {severity}" for severity in section.details["severities"]]
            lines += ["", *_accuracies(section.details["accuracy"], heads)]
    return "\n".join(lines) + "\n"


def _accuracies(table: dict[str, list[float]], heads: list[str]) -> list[str]:
    rows = [f"| {name} | " + " | ".join(f"{value:.2%}" for value in row) + " |" for name, row in table.items()]
    return ["| accuracy | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|", *rows]


def _rescaling(table: dict[str, dict[str, float]]) -> list[str]:
    keys = list(next(iter(table.values())))
    lines = [f"| at test time | {' | '.join(MEASURES[key].title for key in keys)} |", "|---" * (len(keys) + 1) + "|"]
    return lines + [
        f"| {title} | " + " | ".join(formatted(key, row[key]) for key in keys) + " |" for title, row in table.items()
    ]


def _detection(table: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    keys = list(next(iter(next(iter(table.values())).values())))
    lines = [f"| against | score | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for other, scores in table.items():
        for score, numbers in scores.items():
            lines.append(f"| {other} | {score} | " + " | ".join(f"{value:.4f}" for value in numbers.values()) + " |")
    return lines
