"""Compares methods: trains each with several seeds, evaluates every run, and writes tables.

Usage: python -m train.compare [--config=FILE] [--workdir=FOLDER] ...

A comparison is a Python file with get_comparison(), such as train/configs/compare_digits.py. It
chooses alpha for each method on a validation split, by runs with separate seeds. Then all methods
run with the same seeds and the same samples. The workdir keeps finished runs, and the results
keep their numbers. So a new row or seed costs its own runs only, also on another machine that has
the results. Writes all results to a JSON file, and table.md, runs.csv and differences.png to the
workdir.
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
        help="a Python file with get_comparison() (train/configs/compare_digits.py)",
    )
    add("--workdir", metavar="FOLDER", type=pathlib.Path, help="folder for the runs (runs/<name of the config>)")
    add(
        "--results",
        metavar="FILE",
        type=pathlib.Path,
        help="file to read results from and write them to (results.json in the workdir)",
    )
    add("--data_dir", metavar="FOLDER", help="folder with the prepared data of tfds")
    add("--manual_dir", metavar="FOLDER", help="folder with original files to prepare data from")
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
