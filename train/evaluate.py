"""Measures a trained run: calibration, corruptions, attacks, linearity, embeddings, other data.

Usage: python -m train.evaluate --run=FOLDER [--only=SECTIONS] [--limit=N] ...

Reads the newest checkpoint of a run folder of train.main, or the best one, and measures its
parameters, or their moving average, on the run's test split, on all devices of this machine.
Leaves in FOLDER/evaluation: report.json (every number with its definition and settings),
report.md and figures. Numbers do not depend on the batch size or on the number of devices.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import itertools
import pathlib
import shlex
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from train.config import known
from train.errors import UsageError
from train.measures import RESCALINGS
from train.program import program

if TYPE_CHECKING:
    from train.predictor import Predictor
    from train.sections import Section

NEEDS = {
    "calibration": "a test split",
    "rescaling": "a run of mixup or approximate_mixup without transport, all samples mixed by one alpha to the end",
    "embeddings": "a model with features, pool and classify",
    "corruptions": "images",
    "attacks": "images",
    "linearity": "images",
    "ood": "images, and in --ood a set that is not the run's own",
    "released": "images, and --corrupted_dir or --corrupted_tfds",
}


NUM_OUTSIDE = 10_000  # images of other sets, at most


class Options(NamedTuple):
    """What of a run is measured, and where its data and others lie.

    Attributes:
      best: whether to measure the best checkpoint in place of the newest.
      ema: whether to measure averaged parameters in place of the last ones.
      only: names of sections, which have to apply; empty for all that do.
      limit: first samples of the test split that corruptions, attacks and linearity take; 0: all.
      rescale: a key of train.measures.RESCALINGS: what to do to the logits before they are measured and attacked.
      ood: names of data sets to tell from the run's own.
      batch_size: samples per pass.
      corrupted_dir: of CIFAR-C as released.
      corrupted_tfds: whether to read it from tfds.
      data_dir: of tfds, where not the run's own.
      manual_dir: of original files, likewise.
    """

    best: bool = False
    ema: bool = False
    only: tuple[str, ...] = ()
    limit: int = 1000
    rescale: str = ""
    ood: tuple[str, ...] = ("digits", "noise")
    batch_size: int = 500
    corrupted_dir: pathlib.Path | None = None
    corrupted_tfds: bool = False
    data_dir: str | None = None
    manual_dir: str | None = None


def evaluate(folder: pathlib.Path, options: Options, *, quiet: bool = False) -> "dict[str, Section]":
    """Measures a checkpoint of a run.

    Args:
      folder: the run folder.
      options: what is measured.
      quiet: whether to show no progress.

    Returns:
      The sections that apply to the data, by name.

    Raises:
      UsageError: if the folder holds no run, or data are missing.
    """
    import tqdm

    from train import mixing
    from train import predictor as predictor_lib

    config, dataset, predictor = predictor_lib.load(
        folder,
        best=options.best,
        ema=options.ema,
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        batch_size=options.batch_size,
    )
    alpha = mixing.contraction(config.mix)
    if options.rescale:
        if alpha is None:
            raise UsageError(f"--rescale={options.rescale} does not apply: it needs {NEEDS['rescaling']}")
        predictor = predictor.wrapped(predictor_lib.Rescaling(alpha, RESCALINGS[options.rescale]))
    asked = list(_sections(config, dataset, options, embeds=predictor.embeds))
    for name in set(options.only) - {name for name, _ in asked}:
        raise UsageError(f"section {name} does not apply: it needs {NEEDS[name]}")
    sections, batches = {}, itertools.count(1)
    with tqdm.tqdm(asked, unit="section", disable=quiet or not sys.stderr.isatty()) as bar:
        predictor.progress = lambda: bar.set_postfix(batches=next(batches))
        for name, measure in bar:
            bar.set_description(name)
            sections[name] = measure(predictor)
    return sections


def _sections(
    config: Any, dataset: Any, options: Options, *, embeds: bool
) -> "Iterator[tuple[str, Callable[[Predictor], Section]]]":
    """The sections that are asked for and apply, ready to be called."""
    from train import mixing, others, sections

    splits = {name: sections.Samples(*split.read()) for name, split in dataset.splits.items() if name != "train"}
    test, held_out = splits["test"], splits.get("validation")
    few, images = test.first(options.limit), test.inputs.ndim == 4
    only = options.only or tuple(NEEDS)
    if "calibration" in only:
        yield "calibration", functools.partial(sections.clean, samples=test, held_out=held_out)
    alpha = mixing.contraction(config.mix)
    if "rescaling" in only and alpha is not None:
        yield "rescaling", functools.partial(sections.rescaled, samples=test, alpha=alpha)
    if "embeddings" in only and embeds:
        yield "embeddings", functools.partial(sections.embedding, samples=test, class_names=dataset.class_names)
    if not images:
        return
    if "corruptions" in only:
        yield "corruptions", functools.partial(sections.corrupted, samples=few)
    if "attacks" in only:
        yield "attacks", functools.partial(sections.attacked, samples=few)
    if "linearity" in only:
        yield "linearity", functools.partial(sections.linear, samples=few)
    if "ood" in only:
        outside = others.outside(
            options.ood, test.inputs.shape[1:], config.data, count=min(len(test.labels), NUM_OUTSIDE)
        )
        if outside:
            yield "ood", functools.partial(sections.out_of_distribution, samples=test, outside=outside)
    if "released" in only and options.corrupted_dir:
        sets = others.released(options.corrupted_dir, test, limit=options.limit)
        yield "released", functools.partial(sections.released, sets=sets)
    elif "released" in only and options.corrupted_tfds:
        sets = others.released_by_tfds(config.data, limit=options.limit)
        yield "released", functools.partial(sections.released, sets=sets)


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
    from train import evaluation_report  # after --help and usage errors, which need no JAX

    sections = evaluate(run, options)
    evaluation_report.write(out, run, sections, f"python -m train.evaluate {shlex.join(argv)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
