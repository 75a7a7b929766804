"""Rewrites the tables of results in the pages.

Usage: python -m train.readme

It replaces the text between <!-- results: NAME --> and <!-- end --> by the tables of
train/results/NAME.json, a record of train.compare. <!-- results: NAME TABLE --> stands for one
table of a record of train.benchmark, or its caption. <!-- claims: NAME ... --> stands for the
verdicts on the claims of one or more records of train.compare.
"""

from collections.abc import Sequence
import json
import pathlib
import re
import sys
from typing import Any

from train.errors import UsageError
from train.program import program

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "train" / "results"
PAGES = (RESULTS / "README.md", ROOT / "train" / "timing" / "README.md")


def updated(text: str, results: pathlib.Path = RESULTS) -> str:
    """Returns the text with the tables of the results."""
    from train.comparing import claims
    from train.comparing import report as comparison_report
    from train.timing import report as benchmark_report

    def read(name: str) -> dict[str, Any]:
        path = results / f"{name}.json"
        if not path.is_file():
            raise UsageError(f"a page needs {path}, which is missing")
        return json.loads(path.read_text())

    def table(match: re.Match) -> str:
        record, path = read(match[1]), results / f"{match[1]}.json"
        try:
            lines = benchmark_report.lines(record, match[2]) if match[2] else comparison_report.tables(record)
        except KeyError as error:
            raise UsageError(f"{path} has no {error} for {match[0].splitlines()[0]}") from None
        return "\n".join([match[0].splitlines()[0], *lines, "<!-- end -->"])

    def verdicts(match: re.Match) -> str:
        return "\n".join([match[0].splitlines()[0], *claims.lines([*map(read, match[1].split())]), "<!-- end -->"])

    text = re.sub(r"<!-- claims: ([\w ]+) -->\n.*?<!-- end -->", verdicts, text, flags=re.DOTALL)
    return re.sub(r"<!-- results: (\w+)(?: (\w+))? -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


@program("train.readme")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli

    cli.Parser(__doc__ or "").parse_args(argv)
    for page in PAGES:
        page.write_text(updated(page.read_text()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
