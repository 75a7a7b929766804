"""Measures a trained run: calibration, corruptions, attacks, linearity, embeddings, other data.

Usage: python -m train.evaluate --run=FOLDER [--only=SECTIONS] [--limit=N] ...

Reads the newest checkpoint of a run folder of train.main, or the best one, and measures its
parameters, or their moving average, on the run's test split, on all devices of this machine.
Leaves in FOLDER/evaluation: report.json (every number with its definition and settings),
report.md and figures. Numbers do not depend on the batch size or on the number of devices.
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
    """Reads the flags: the run folder, the folder of the report, and what is measured."""
    from train import cli

    defaults = Options()
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--run", metavar="FOLDER", required=True, help="run folder of train.main")
    add("--best", action="store_true", help="the best checkpoint, by the run's keep_best (the newest)")
    add("--ema", action="store_true", help="the moving average of the parameters (the parameters themselves)")
    add("--only", metavar="SECTIONS", help=f"some of {', '.join(NEEDS)}, with commas (all that apply)")
    add(
        "--limit",
        type=int,
        metavar="N",
        default=defaults.limit,
        help="first test samples that corruptions, attacks and linearity take (%(default)s); 0: all",
    )
    add(
        "--rescale",
        metavar="HALF",
        default=defaults.rescale,
        help="of a mixup run, measure and attack its logits after the test-time transformation: inputs, outputs, both",
    )
    add(
        "--ood",
        metavar="SETS",
        default=",".join(defaults.ood),
        help="data sets to tell from the run's own (%(default)s)",
    )
    released = "CIFAR-10-C or CIFAR-100-C as released, *.npy"
    add("--corrupted_dir", "--corrupted-dir", metavar="FOLDER", type=pathlib.Path, help=released)
    add("--corrupted_tfds", action="store_true", help="CIFAR-10-C as prepared by train.prepare cifar10_corrupted")
    add("--batch_size", type=int, metavar="N", default=defaults.batch_size, help="samples per pass (%(default)s)")
    add(
        "--out",
        metavar="FOLDER",
        type=pathlib.Path,
        help="where to write (evaluation in the run folder, or evaluation_best_ema_rescaled_HALF)",
    )
    add("--data_dir", metavar="FOLDER", help="where tfds' data lie, if not where the run found them")
    add("--manual_dir", metavar="FOLDER", help="of original files, to prepare data from")
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
