"""The runs of a comparison: trains and evaluates them, and chooses alpha."""

from collections.abc import Callable
import contextlib
import itertools
import json
import pathlib
import statistics
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from train.comparing import design as comparison_lib
from train.comparing.design import Comparison, Results, Run
from train.comparing.kept import Kept
from train.errors import ProgramError, UsageError

if TYPE_CHECKING:
    from train.running.run_folder import Row


def trained(run: Run, workdir: pathlib.Path) -> "Row":
    """Returns the metrics of a run's last epoch; trains or resumes it, unless it has ended."""
    from train.running import run_folder
    from train.tasks import classifier

    folder = run.folder(workdir)
    row = run_folder.finished(folder, run.config)
    if row is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            folder.with_suffix(".log").open("a") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            try:
                classifier.train_and_evaluate(run.config, folder)
            except ProgramError as error:
                error.args = (f"{folder}: {error}",)
                raise
        row = run_folder.finished(folder, run.config)
    assert row is not None
    return row


class Measured(NamedTuple):
    """The measures of a run by key, and its accuracy by corruption, if measured."""

    values: dict[str, float]
    corruptions: dict[str, float]


def evaluated(run: Run, workdir: pathlib.Path, comparison: Comparison, rescaling: str = "") -> Measured:
    """Measures a run, rescaled or not; reuses earlier measurements of the same kind from its folder."""
    from train.measuring import evaluation, measures
    from train.running import run_folder

    trained(run, workdir)
    folder, data = run.folder(workdir), run.config.data
    asked = [measures.MEASURES[key] for key in comparison.measures]
    sections = tuple(dict.fromkeys(measure.section for measure in asked))
    epsilons = sorted({measure.epsilon for measure in asked if measure.epsilon})
    settings = {"limit": comparison.limit, "sections": list(sections), "epsilons": epsilons}
    kept = folder / (f"measures_{rescaling}.json" if rescaling else "measures.json")
    content: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"settings": None}
    needed = run.method in comparison.by_corruption
    if content["settings"] == settings and ("corruptions" in content or not needed):
        return Measured(content["values"], content.get("corruptions", {}))
    options = evaluation.Options(
        only=sections,
        limit=comparison.limit,
        rescale=rescaling,
        epsilons=tuple(epsilons),
        data_dir=data.data_dir,
        manual_dir=data.manual_dir,
    )
    measured = evaluation.evaluate(folder, options, quiet=True)
    values = {key: value for section in measured.values() for key, value in section.values.items()}
    by_corruption = measured["corruptions"].details["accuracy"] if "corruptions" in sections else {}
    found = Measured(values, {name: statistics.fmean(severities) for name, severities in by_corruption.items()})
    run_folder.write_json(kept, {"settings": settings, **found._asdict()})
    return found


def choose(
    comparison: Comparison,
    dataset: str,
    method: str,
    workdir: pathlib.Path,
    done: Callable[[Run], None],
    kept: Kept,
) -> list[dict[str, Any]]:
    """Sorts the candidates for alpha from best to worst, by mean accuracy on the validation splits, then by NLL."""
    alphas = comparison_lib.candidates(comparison, method)
    if len(alphas) == 1:
        return [{"alpha": alphas[0]}]
    tried: list[dict[str, Any]] = []
    for alpha in alphas:
        runs = []
        for seed in comparison_lib.selection_seeds(comparison):
            run = comparison_lib.run(comparison, dataset, method, alpha, seed)

            def validated(run: Run = run) -> dict[str, Any]:
                row = trained(run, workdir)
                return {"seed": run.config.seed, **{key: row[f"validation_{key}"] for key in ("accuracy", "nll")}}

            runs.append(kept.get(run, "validation", ("accuracy", "nll"), validated))
            done(run)
        means = {key: statistics.fmean(run[key] for run in runs) for key in ("accuracy", "nll")}
        tried.append({"alpha": alpha, **means, "runs": runs})
    return sorted(tried, key=lambda entry: (-entry["accuracy"], entry["nll"]))


def compare(comparison: Comparison, workdir: pathlib.Path, record: Results | None = None) -> dict[str, Any]:
    """Chooses alphas, then trains, evaluates and times all methods of a comparison.

    Args:
      comparison: the comparison.
      workdir: the folder for the runs.
      record: an earlier record; its runs are not trained again.

    Returns:
      The selection, the runs with their measures, the cost of a step, and the record's other entries.
    """
    import jax
    import tqdm

    from train import data
    from train.learning import mixing
    from train.timing import cost

    kept = Kept(record or {}, _digests(comparison, workdir), workdir)
    pairs = [(dataset, method) for dataset in comparison.datasets for method in comparison.methods]
    bar = tqdm.tqdm(total=comparison_lib.num_runs(comparison), unit="run", disable=not sys.stderr.isatty())

    count = itertools.count(1)

    def done(run: Run) -> None:
        if next(count) % 20 == 0:
            jax.clear_caches()  # XLA's CPU backend aborts once it has mapped thousands of programs
        bar.set_description(str(run.folder(pathlib.Path())), refresh=False)
        bar.update()
        if bar.disable:
            print(run.folder(workdir), flush=True)

    selection = {pair: choose(comparison, *pair, workdir, done, kept) for pair in pairs}
    chosen = {pair: tried[0]["alpha"] for pair, tried in selection.items()}
    runs = []
    for seed in range(comparison.num_seeds):
        for dataset, method in pairs:
            run = comparison_lib.run(comparison, dataset, method, chosen[dataset, method], seed)
            what = {"alpha": run.alpha, "policy": mixing.normal_form(run.config.mix), "seed": seed}
            for title, rescaling in comparison_lib.rows(comparison, method).items():
                needed = ("corruptions",) if title in comparison.by_corruption else ()

                def measured(run: Run = run, rescaling: str = rescaling, shown: bool = bool(needed)) -> dict[str, Any]:
                    found = evaluated(run, workdir, comparison, rescaling)
                    values = {key: found.values[key] for key in comparison.measures}
                    return {"values": values, **({"corruptions": found.corruptions} if shown else {})}

                how = f"limit={comparison.limit} rescaling={rescaling}"
                entry = kept.get(run, how, (*comparison.measures, *needed), measured)
                runs.append({**entry, "dataset": dataset, "method": title, **what})
            done(run)
    bar.close()
    costs = {}
    for dataset in comparison.datasets:
        methods = {
            m: comparison_lib.run(comparison, dataset, m, chosen[dataset, m], 0).config for m in comparison.methods
        }
        first = next(iter(methods.values()))
        costs[dataset] = cost.step_ratios(methods, data.load(first.data, seed=first.seed))
    tried = [{"dataset": d, "method": m, "candidates": c} for (d, m), c in selection.items() if len(c) > 1]
    return {"selection": tried, "runs": runs, "cost": costs, "kept": kept.others()}


def _digests(comparison: Comparison, workdir: pathlib.Path) -> dict[str, str]:
    """Of a user's own data, by title; a UsageError where runs in the workdir were of data that have changed since."""
    from train import data
    from train.data import own
    from train.running import run_folder

    digests = {}
    for dataset, base in comparison.datasets.items():
        if not own.is_own(base.data.name):
            continue
        digest = digests[dataset] = data.load(base.data).digest
        run = comparison_lib.run(comparison, dataset, next(iter(comparison.methods)), 1.0, 0)
        for folder in sorted(run.folder(workdir).parent.parent.glob("*/*/")):
            if run_folder.data_changed(folder, digest):
                raise UsageError(
                    f"{folder} is a run on other data, since {base.data.name} has changed: restore the data, or name "
                    "another folder by --workdir"
                )
    return digests
