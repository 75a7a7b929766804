"""Verdicts on the papers' claims, by data set."""

from collections.abc import Sequence
import math

from train.comparing import design as comparison_lib
from train.comparing.design import Claim, Results
from train.measuring.measures import MEASURES

VERDICTS = {1: "holds", 0: "not seen", -1: "the contrary"}


def lines(records: Sequence[Results]) -> list[str]:
    """Makes a table in Markdown, with a row for each claim and method and a column for each record's data sets."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    measures: dict[tuple[str, str], list[str]] = {}
    columns = [dataset for record in records for dataset in record["design"]["datasets"]]
    for record in records:
        for claim in (Claim(**claim) for claim in record["design"]["claims"]):
            for method in claim.methods:
                row = f"{claim.source} {claim.text}", f"{method} - {claim.against}"
                measures.setdefault(row, []).append(MEASURES[claim.measure].title)
                for dataset in record["design"]["datasets"]:
                    rows.setdefault(row, {})[dataset] = _verdict(record, claim, dataset, method)
    if not rows:
        return []
    table = ["| claim | measure | of | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    said = ""
    for (text, of), verdicts in rows.items():
        cells = ["" if text == said else text, " / ".join(dict.fromkeys(measures[text, of])), of]
        table.append("| " + " | ".join([*cells, *(verdicts.get(column, "") for column in columns)]) + " |")
        said = text
    return table


def _verdict(record: Results, claim: Claim, dataset: str, method: str) -> str:
    difference = comparison_lib.differences(record, dataset, method, claim.against, claim.measure)
    mean, error = comparison_lib.mean_and_error(difference)
    verdict = VERDICTS[comparison_lib.counts(difference, MEASURES[claim.measure].better)]
    number = f"{'+' if mean >= 0 else ''}{plain(claim.measure, mean)} ± {plain(claim.measure, error, signed=False)}"
    return f"{verdict}, {number}"


def plain(key: str, value: float, *, signed: bool = True) -> str:
    """Formats a number like its measure, with shares in percent."""
    if math.isnan(value):
        return "not determined"
    form = MEASURES[key].form if signed else MEASURES[key].form.replace("+", "")
    return f"{100 * value:.2f}" if form.endswith("%") else f"{value:{form.replace('4', '3')}}"
