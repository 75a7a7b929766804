"""Measures a trained run: calibration, corruptions, attacks, linearity, embeddings, other data.

Usage: python -m train.evaluate --run=FOLDER [--only=SECTIONS] [--limit=N] ...

Reads the newest (or best) checkpoint from a run folder of train.main. Measures its parameters (or
their moving average) on the run's test split, on all devices of this machine. Writes report.json
(every number with its definition and settings), report.md and figures to FOLDER/evaluation.
Numbers do not depend on the batch size or on the number of devices.
"""

from collections.abc import Sequence
import pathlib
import shlex
import sys

from train.config import known
from train.errors import UsageError
from train.measuring.evaluation import NEEDS, Options, evaluate
from train.measuring.measures import RESCALINGS
from train.program import program


def parse(argv: Sequence[str]) -> tuple[pathlib.Path, pathlib.Path, Options]:
    """Reads the flags: the run folder, the report's folder, and the options of the evaluation."""
    from train import cli

    defaults = Options()
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--run", metavar="FOLDER", required=True, help="a run folder of train.main")
    add("--best", action="store_true", help="measure the best checkpoint by the run's keep_best (the newest)")
    add("--ema", action="store_true", help="measure the parameters' moving average (the parameters)")
    add("--only", metavar="SECTIONS", help=f"sections to run, separated by commas: {', '.join(NEEDS)} (all that apply)")
    add(
        "--limit",
        type=int,
        metavar="N",
        default=defaults.limit,
        help="number of test samples for corruptions, attacks and linearity; 0 takes all (%(default)s)",
    )
    add(
        "--rescale",
        metavar="HALF",
        default=defaults.rescale,
        help="for mixup runs: measure and attack the logits after the test-time correction: inputs, outputs or both",
    )
    add(
        "--ood",
        metavar="SETS",
        default=",".join(defaults.ood),
        help="out-of-distribution data sets, separated by commas (%(default)s)",
    )
    released = "folder with CIFAR-10-C or CIFAR-100-C as released, *.npy"
    add("--corrupted_dir", "--corrupted-dir", metavar="FOLDER", type=pathlib.Path, help=released)
    add("--corrupted_tfds", action="store_true", help="use CIFAR-10-C as prepared by train.prepare cifar10_corrupted")
    add("--batch_size", type=int, metavar="N", default=defaults.batch_size, help="samples per batch (%(default)s)")
    add(
        "--out",
        metavar="FOLDER",
        type=pathlib.Path,
        help="folder to write to (evaluation in the run folder; with options, evaluation_best_ema_rescaled_HALF)",
    )
    add("--data_dir", metavar="FOLDER", help="folder with the prepared data of tfds (the run's)")
    add("--manual_dir", metavar="FOLDER", help="folder with original files to prepare data from")
    values = vars(parser.parse_args(argv))
    run, out = pathlib.Path(values.pop("run")).expanduser(), values.pop("out")
    for name in ("only", "ood"):
        values[name] = tuple(part for part in (values[name] or "").split(",") if part)
    for section in values["only"]:
        known("section", section, list(NEEDS))
    if values["rescale"]:
        known("part", values["rescale"], list(RESCALINGS), prefix="--rescale=")
    for name, least in (("limit", 0), ("batch_size", 1)):
        if values[name] < least:
            raise UsageError(f"--{name} must be at least {least}, got {values[name]}")
    if values["corrupted_dir"]:
        values["corrupted_dir"] = values["corrupted_dir"].expanduser()
    chosen = [name for name in ("best", "ema") if values[name]]
    chosen += ["rescaled", values["rescale"]] if values["rescale"] else []
    return run, (out or run / "_".join(["evaluation", *chosen])).expanduser(), Options(**values)


@program("train.evaluate")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    run, out, options = parse(argv)
    from train.measuring import report as evaluation_report  # after --help and usage errors, which need no JAX

    sections = evaluate(run, options)
    evaluation_report.write(out, run, sections, f"python -m train.evaluate {shlex.join(argv)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
