"""Compares methods: trains each over seeds, evaluates every run, and writes tables.

Usage: python -m train.compare [--config=FILE] [--workdir=FOLDER] ...

A comparison is a Python file with get_comparison(), such as train/configs/compare_digits.py.
Alpha is chosen for each method on a validation split, by runs of seeds of their own; then all
methods run with the same seeds, which draw the same samples for all. Runs that have ended
are kept in the workdir, and their numbers in the results: to add a row or a seed costs its own
runs only, on another machine, too, that has the results. It leaves a JSON file of all results,
and in the workdir table.md, runs.csv and differences.png.
"""

from collections.abc import Sequence
import os
import pathlib
import sys
from typing import Any

from train.comparing import design as comparison_lib
from train.comparing.design import Comparison
from train.comparing.experiments import compare
from train.program import program


def parse(argv: Sequence[str]) -> tuple[Any, Comparison]:
    """Reads the flags and the comparison."""
    from train import cli

    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add(
        "--config",
        metavar="FILE",
        type=pathlib.Path,
        default=cli.CONFIGS / "compare_digits.py",
        help="a Python file with get_comparison() (compare_digits.py)",
    )
    add("--workdir", metavar="FOLDER", type=pathlib.Path, help="where the runs lie (runs/<name of the config>)")
    add(
        "--results",
        metavar="FILE",
        type=pathlib.Path,
        help="where results go, and come from (results.json in the workdir)",
    )
    add("--data_dir", metavar="FOLDER", help="where tfds' data lie")
    add("--manual_dir", metavar="FOLDER", help="of original files, to prepare data from")
    flags = parser.parse_args(argv)
    comparison = cli.load(flags.config, "get_comparison", Comparison)
    comparison_lib.check(comparison)
    places = {name: value for name in ("data_dir", "manual_dir") if (value := getattr(flags, name)) is not None}
    flags.workdir = (flags.workdir or pathlib.Path("runs") / flags.config.stem).expanduser()
    flags.results = (flags.results or flags.workdir / "results.json").expanduser()
    return flags, comparison_lib.placed(comparison, **places)


@program("train.compare")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    flags, comparison = parse(argv)
    from train.comparing import report as comparison_report
    from train.running import parallel  # after --help and usage errors, which need no JAX

    parallel.keep_programs(flags.workdir / "programs")
    results = compare(comparison, flags.workdir, comparison_report.read(flags.results))
    comparison_report.write(
        results, comparison, f"--config={os.path.relpath(flags.config)}", flags.workdir, flags.results
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
