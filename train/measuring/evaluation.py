"""Evaluates a run: chooses the sections that apply, and computes their numbers."""

from collections.abc import Callable, Iterator
import functools
import itertools
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from train.errors import UsageError
from train.measuring.measures import RESCALINGS

if TYPE_CHECKING:
    from train.measuring.predictor import Predictor
    from train.measuring.sections import Section

NEEDS = {
    "calibration": "a test split",
    "training": "training samples that are held on the devices",
    "rescaling": "a run of mixup, or of its expansion, without transport, all samples mixed by one alpha to the end",
    "embeddings": "a model with features, pool and classify",
    "corruptions": "images",
    "attacks": "images",
    "linearity": "images",
    "ood": "images, and in --ood a set that is not the run's own",
    "released": "images, and --corrupted_dir or --corrupted_tfds",
}


NUM_OUTSIDE = 10_000  # images of other sets, at most


class Options(NamedTuple):
    """Options of an evaluation: what to measure, and the folders of data.

    Attributes:
      best: whether to measure the best checkpoint instead of the newest.
      ema: whether to measure averaged parameters instead of the last ones.
      only: names of sections, which must apply; empty for all that apply.
      limit: number of test samples for corruptions, attacks and linearity; 0 takes all.
      rescale: a key of RESCALINGS, the correction of logits before they are measured and attacked.
      ood: names of out-of-distribution data sets.
      epsilons: strengths of the attacks, in 1/255, from train.measuring.sections.EPSILONS; empty for all of them.
      batch_size: samples per batch.
      corrupted_dir: folder with CIFAR-C as released.
      corrupted_tfds: whether to read CIFAR-C from tfds.
      data_dir: folder with the prepared data of tfds, if not the run's own.
      manual_dir: folder with original files, if not the run's own.
    """

    best: bool = False
    ema: bool = False
    only: tuple[str, ...] = ()
    limit: int = 1000
    rescale: str = ""
    ood: tuple[str, ...] = ("digits", "noise")
    epsilons: tuple[int, ...] = ()
    batch_size: int = 500
    corrupted_dir: pathlib.Path | None = None
    corrupted_tfds: bool = False
    data_dir: str | None = None
    manual_dir: str | None = None


def evaluate(folder: pathlib.Path, options: Options, *, quiet: bool = False) -> "dict[str, Section]":
    """Measures a checkpoint of a run.

    Args:
      folder: the run folder.
      options: what to measure.
      quiet: whether to hide progress: the current section, on a terminal, and the time that each took.

    Returns:
      The sections that apply to the data, by name.

    Raises:
      UsageError: if the folder contains no run, or data are missing.
    """
    import tqdm

    from train.learning import mixing
    from train.measuring import predictor as predictor_lib

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
            began = time.monotonic()
            sections[name] = measure(predictor)
            if not quiet:
                bar.write(f"{name}  {time.monotonic() - began:.1f} s", file=sys.stderr)
    return sections


def _sections(
    config: Any, dataset: Any, options: Options, *, embeds: bool
) -> "Iterator[tuple[str, Callable[[Predictor], Section]]]":
    """Returns the requested sections that apply, as functions."""
    from train.learning import mixing
    from train.measuring import others, robustness, sections

    splits = {name: sections.Samples(*split.read()) for name, split in dataset.splits.items() if name != "train"}
    test, held_out = splits["test"], splits.get("validation")
    few, images = test.first(options.limit), test.inputs.ndim == 4
    only = options.only or tuple(NEEDS)
    if "calibration" in only:
        yield "calibration", functools.partial(sections.clean, samples=test, held_out=held_out)
    if "training" in only and dataset.splits["train"].resident[0] is not None:
        yield (
            "training",
            functools.partial(sections.training, samples=sections.Samples(*dataset.splits["train"].read())),
        )
    alpha = mixing.contraction(config.mix)
    if "rescaling" in only and alpha is not None:
        yield "rescaling", functools.partial(sections.rescaled, samples=test, alpha=alpha)
    if "embeddings" in only and embeds:
        yield "embeddings", functools.partial(sections.embedding, samples=test, class_names=dataset.class_names)
    if not images:
        return
    if "corruptions" in only:
        yield "corruptions", functools.partial(robustness.corrupted, samples=few)
    if "attacks" in only:
        yield "attacks", functools.partial(robustness.attacked, samples=few, epsilons=options.epsilons)
    if "linearity" in only:
        yield "linearity", functools.partial(robustness.linear, samples=few)
    if "ood" in only:
        outside = others.outside(
            options.ood, test.inputs.shape[1:], config.data, count=min(len(test.labels), NUM_OUTSIDE)
        )
        if outside:
            yield "ood", functools.partial(sections.out_of_distribution, samples=test, outside=outside)
    if "released" in only and options.corrupted_dir:
        sets = others.released(options.corrupted_dir, test, limit=options.limit)
        yield "released", functools.partial(robustness.released, sets=sets)
    elif "released" in only and options.corrupted_tfds:
        sets = others.released_by_tfds(config.data, limit=options.limit)
        yield "released", functools.partial(robustness.released, sets=sets)
