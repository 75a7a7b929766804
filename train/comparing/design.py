"""The design of a comparison: methods, data sets and seeds, the runs they need, and when a difference counts."""

from collections.abc import Sequence
import dataclasses
import math
import pathlib
import re
import statistics
from typing import Any

from train.config import Config, Mix, known
from train.errors import UsageError
from train.measuring.measures import MEASURES, RESCALINGS

Results = dict[str, Any]  # what train.compare writes as JSON

ALPHA = "{alpha}"  # in a policy: the number that is tuned
SELECTION_SEED = 1000  # the first seed of the runs that alpha is chosen by; no measured run has it


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a paper's abstract says, and what is held against it; fixed before anything is measured.

    It holds for a method if the mean difference to another one, seed by seed, is on the
    claimed side of zero by more than two standard errors.

    Attributes:
      source: the paper.
      text: what it says.
      measure: the column that speaks to it.
      methods: those it is about.
      against: the method that they are said to surpass.
    """

    source: str
    text: str
    measure: str
    methods: tuple[str, ...]
    against: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods against one another.

    Attributes:
      datasets: by title, what is trained but for the mixing.
      methods: by title, the mixing; the first is the one that others are compared with. What stands as {alpha} in
        a policy is tuned.
      alphas: candidates of it, tried on the validation split.
      num_seeds: number of measured runs of each method on each data set.
      num_selection_seeds: number of runs that each candidate is judged by.
      measures: columns of the tables, keys of train.measuring.measures.MEASURES.
      shown: those of them in the first table, the others in a second one; all in one where empty.
      rescalings: keys of RESCALINGS there; runs that one applies to are measured so, too, in further rows.
      limit: samples of the test split that corruptions, attacks and linearity are measured on; 0: all.
      claims: what the papers say.
      by_corruption: methods, the first of all first, whose accuracy under each corruption is shown, too.
    """

    datasets: dict[str, Config]
    methods: dict[str, Mix]
    alphas: tuple[float, ...]
    num_seeds: int
    num_selection_seeds: int
    measures: tuple[str, ...]
    rescalings: tuple[str, ...] = ()
    limit: int = 0
    claims: tuple[Claim, ...] = ()
    by_corruption: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one method.

    Attributes:
      dataset: title of the data set.
      method: title of the method.
      config: everything that determines it.
      alpha: what stands for {alpha} in its policy; None where there is none.
    """

    dataset: str
    method: str
    config: Config
    alpha: float | None = None

    def folder(self, workdir: pathlib.Path) -> pathlib.Path:
        """Where it lies, by what tells it from the others."""
        method = self.method if self.alpha is None else f"{self.method} alpha={self.alpha:g}"
        names = (self.dataset, method, f"seed={self.config.seed}")
        return workdir.joinpath(*(re.sub(r"[^\w=.-]+", "_", name) for name in names))


def run(comparison: Comparison, dataset: str, method: str, alpha: float | None, seed: int) -> Run:
    """A run; the seed draws the training and validation samples, too, the same for all methods."""
    base, mix = comparison.datasets[dataset], comparison.methods[method]
    if alpha is not None:
        mix = with_alpha(mix, alpha)
    data = dataclasses.replace(base.data, split_seed=seed)
    return Run(dataset, method, dataclasses.replace(base, data=data, mix=mix, seed=seed), alpha)


def with_alpha(mix: Mix, alpha: float) -> Mix:
    """The mixing with a number in place of {alpha}."""
    return dataclasses.replace(mix, policy=mix.policy.replace(ALPHA, repr(float(alpha))))


def placed(comparison: Comparison, **places: Any) -> Comparison:
    """The same comparison, its data in other places: data_dir, manual_dir."""
    bases = {
        dataset: dataclasses.replace(base, data=dataclasses.replace(base.data, **places))
        for dataset, base in comparison.datasets.items()
    }
    return dataclasses.replace(comparison, datasets=bases)


def num_runs(comparison: Comparison) -> int:
    """How many runs it takes in all."""
    tried = [len(candidates(comparison, method)) for method in comparison.methods]
    selection = comparison.num_selection_seeds * sum(count for count in tried if count > 1)
    return len(comparison.datasets) * (selection + comparison.num_seeds * len(tried))


def rows(comparison: Comparison, method: str) -> dict[str, str]:
    """The rows that a method has in tables, by title, and the rescaling of each, empty for none."""
    from train.learning import mixing  # needs JAX

    alphas = [alpha for alpha in candidates(comparison, method) if alpha is not None]
    mix = with_alpha(comparison.methods[method], alphas[0]) if alphas else comparison.methods[method]
    rescalings = comparison.rescalings if mixing.contraction(mix) is not None else ()
    return {method: ""} | {f"{method}, {RESCALINGS[rescaling].title}": rescaling for rescaling in rescalings}


def selection_seeds(comparison: Comparison) -> range:
    """The seeds of the runs that alpha is chosen by."""
    return range(SELECTION_SEED, SELECTION_SEED + comparison.num_selection_seeds)


def check(comparison: Comparison) -> None:
    """Raises a UsageError where the parts of a comparison do not fit one another."""
    if comparison.num_seeds < 2:
        raise UsageError(f"num_seeds must be at least 2, since a standard error needs two, got {comparison.num_seeds}")
    if comparison.num_selection_seeds < 1 or comparison.limit < 0:
        raise UsageError("num_selection_seeds must be at least 1 and limit at least 0")
    tuned = [method for method, mix in comparison.methods.items() if ALPHA in mix.policy]
    if bool(tuned) != bool(comparison.alphas):
        raise UsageError(
            f"alphas={comparison.alphas} and policies with {ALPHA}, {', '.join(tuned) or 'none'}: give both or neither"
        )
    from train.learning import mixing  # needs JAX

    for mix in comparison.methods.values():
        mixing.check_policy(with_alpha(mix, comparison.alphas[0]) if ALPHA in mix.policy else mix)
    for rescaling in comparison.rescalings:
        known("rescaling", rescaling, list(RESCALINGS))
    for measure in comparison.measures:
        known("measure", measure, list(MEASURES))
        if (section := MEASURES[measure].section) in ("released", "rescaling"):
            raise UsageError(f"{measure} is measured by train.evaluate only: remove it")
        if comparison.rescalings and section == "embeddings":
            raise UsageError(f"{measure} does not depend on logits, which rescalings change: remove it")
    for measure in comparison.shown:
        known("measure that is shown", measure, comparison.measures)
    titles = [title for method in comparison.methods for title in rows(comparison, method)]
    if len(set(titles)) < len(titles):
        raise UsageError(f"two of the rows {', '.join(titles)} have the same title: rename a method")
    if comparison.rescalings and len(titles) == len(comparison.methods):
        raise UsageError("rescalings apply to no method: take mixup, approximate_mixup or linearized_mixup, or none")
    for claim in comparison.claims:
        for method in (*claim.methods, claim.against):
            known("method of a claim", method, titles)
        known("measure of a claim", claim.measure, comparison.measures)
        if MEASURES[claim.measure].better == "none":
            raise UsageError(
                f"a claim on {claim.measure} cannot be judged, since neither direction is better: remove it"
            )
    for method in comparison.by_corruption:
        known("method by corruption", method, titles)
    if comparison.by_corruption:
        known("measure by corruption", "corrupted_accuracy", comparison.measures)
        if comparison.by_corruption[0] != titles[0]:
            raise UsageError(f"by_corruption shows differences to {titles[0]}: name that row first")
    for dataset, base in comparison.datasets.items():
        if comparison.alphas and not base.data.num_validation:
            raise UsageError(f"{dataset} needs data.num_validation to choose alpha by")


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; NaN both where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def counts(differences: Sequence[float], better: str) -> int:
    """1 where differences, seed by seed, are for the better by more than two standard errors, -1 for the worse, else 0.

    Args:
      differences: one for each seed.
      better: "higher" or "lower".
    """
    mean, error = mean_and_error(differences)
    if not abs(mean) > 2 * error:  # as where a seed's is NaN, not determined
        return 0
    return 1 if (mean > 0) == (better == "higher") else -1


def titles(record: Results) -> list[str]:
    """The rows of a record's tables, in their order; the first is the baseline."""
    return list(dict.fromkeys(run["method"] for run in record["runs"]))


def column(record: Results, dataset: str, method: str, key: str, of: str = "values") -> list[float]:
    """A measure of a method by seed, or its accuracy under a corruption where of is "corruptions"."""
    runs = [run for run in record["runs"] if (run["dataset"], run["method"]) == (dataset, method)]
    return [run[of][key] for run in sorted(runs, key=lambda run: run["seed"])]


def differences(record: Results, dataset: str, method: str, against: str, key: str, of: str = "values") -> list[float]:
    """A measure of a method less that of another, seed by seed."""
    pairs = zip(column(record, dataset, method, key, of), column(record, dataset, against, key, of), strict=True)
    return [one - other for one, other in pairs]


def candidates(comparison: Comparison, method: str) -> tuple[float | None, ...]:
    """The alphas among which one is chosen on the validation split; None alone where nothing is tuned."""
    return comparison.alphas if ALPHA in comparison.methods[method].policy else (None,)
