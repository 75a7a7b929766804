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
    """A claim of a paper's abstract, and how to test it; fixed before anything is measured.

    The claim holds for a method if the mean difference to another method, paired by seed, is on
    the claimed side of zero and significant at the 5 % level by a paired t-test.

    Attributes:
      source: the paper.
      text: the claim.
      measure: the measure that tests it.
      methods: the methods that it is about.
      against: the method that they should surpass.
    """

    source: str
    text: str
    measure: str
    methods: tuple[str, ...]
    against: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of methods.

    Attributes:
      datasets: configurations of a run without mixing, by title.
      methods: the mixing, by title; the others are compared with the first. {alpha} in a policy is tuned.
      alphas: candidates for alpha, tried on the validation split.
      num_seeds: number of measured runs of each method on each data set.
      num_selection_seeds: number of runs that test each candidate.
      measures: columns of the tables, keys of train.measuring.measures.MEASURES.
      shown: measures in the first table, with the others in a second one; empty for all in one table.
      rescalings: keys of RESCALINGS there; runs that one applies to get another row with it.
      limit: number of test samples for corruptions, attacks and linearity; 0 takes all.
      claims: the papers' claims.
      by_corruption: methods whose accuracy under each corruption is shown, too; the first of all methods comes first.
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
    """One run of one method.

    Attributes:
      dataset: title of the data set.
      method: title of the method.
      config: the configuration, which determines the run.
      alpha: the value of {alpha} in the policy; None if there is none.
    """

    dataset: str
    method: str
    config: Config
    alpha: float | None = None

    def folder(self, workdir: pathlib.Path) -> pathlib.Path:
        """Returns the run's folder, named after what distinguishes it from other runs."""
        method = self.method if self.alpha is None else f"{self.method} alpha={self.alpha:g}"
        names = (self.dataset, method, f"seed={self.config.seed}")
        return workdir.joinpath(*(re.sub(r"[^\w=.-]+", "_", name) for name in names))


def run(comparison: Comparison, dataset: str, method: str, alpha: float | None, seed: int) -> Run:
    """Returns a run; its seed also draws the training and validation samples, the same for all methods."""
    base, mix = comparison.datasets[dataset], comparison.methods[method]
    if alpha is not None:
        mix = with_alpha(mix, alpha)
    data = dataclasses.replace(base.data, split_seed=seed)
    return Run(dataset, method, dataclasses.replace(base, data=data, mix=mix, seed=seed), alpha)


def with_alpha(mix: Mix, alpha: float) -> Mix:
    """Returns the mixing with a number in place of {alpha}."""
    return dataclasses.replace(mix, policy=mix.policy.replace(ALPHA, repr(float(alpha))))


def placed(comparison: Comparison, **places: Any) -> Comparison:
    """Returns the same comparison with its data in other folders: data_dir, manual_dir."""
    bases = {
        dataset: dataclasses.replace(base, data=dataclasses.replace(base.data, **places))
        for dataset, base in comparison.datasets.items()
    }
    return dataclasses.replace(comparison, datasets=bases)


def num_runs(comparison: Comparison) -> int:
    """Returns the number of runs of a comparison."""
    tried = [len(candidates(comparison, method)) for method in comparison.methods]
    selection = comparison.num_selection_seeds * sum(count for count in tried if count > 1)
    return len(comparison.datasets) * (selection + comparison.num_seeds * len(tried))


def rows(comparison: Comparison, method: str) -> dict[str, str]:
    """Returns the titles of a method's rows in tables, and the rescaling of each, empty for none."""
    from train.learning import mixing  # needs JAX

    alphas = [alpha for alpha in candidates(comparison, method) if alpha is not None]
    mix = with_alpha(comparison.methods[method], alphas[0]) if alphas else comparison.methods[method]
    rescalings = comparison.rescalings if mixing.contraction(mix) is not None else ()
    return {method: ""} | {f"{method}, {RESCALINGS[rescaling].title}": rescaling for rescaling in rescalings}


def selection_seeds(comparison: Comparison) -> range:
    """Returns the seeds of the runs that choose alpha."""
    return range(SELECTION_SEED, SELECTION_SEED + comparison.num_selection_seeds)


def check(comparison: Comparison) -> None:
    """Raises a UsageError if the parts of a comparison do not fit together."""
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
    """Returns the mean and its standard error, both NaN if a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))


def margin(values: Sequence[float]) -> float:
    """Returns half the width of the mean's 95 % confidence interval, by Student's t."""
    from scipy import special

    return float(special.stdtrit(len(values) - 1, 0.975)) * mean_and_error(values)[1]


def counts(differences: Sequence[float], better: str) -> int:
    """Returns 1 if paired differences are significantly better (5 %, t-test), -1 if worse, else 0.

    Args:
      differences: one for each seed.
      better: "higher" or "lower".
    """
    mean, _ = mean_and_error(differences)
    if not abs(mean) > margin(differences):  # also where a value is NaN
        return 0
    return 1 if (mean > 0) == (better == "higher") else -1


def titles(record: Results) -> list[str]:
    """Returns the titles of the rows of a record's tables in order; the first is the baseline."""
    return list(dict.fromkeys(run["method"] for run in record["runs"]))


def column(record: Results, dataset: str, method: str, key: str, of: str = "values") -> list[float]:
    """Returns a method's measure by seed, or its accuracy under a corruption if `of` is "corruptions"."""
    runs = [run for run in record["runs"] if (run["dataset"], run["method"]) == (dataset, method)]
    return [run[of][key] for run in sorted(runs, key=lambda run: run["seed"])]


def differences(record: Results, dataset: str, method: str, against: str, key: str, of: str = "values") -> list[float]:
    """Returns the differences of a measure between two methods, paired by seed."""
    pairs = zip(column(record, dataset, method, key, of), column(record, dataset, against, key, of), strict=True)
    return [one - other for one, other in pairs]


def candidates(comparison: Comparison, method: str) -> tuple[float | None, ...]:
    """Returns the alphas to choose from on the validation split, or None alone if nothing is tuned."""
    return comparison.alphas if ALPHA in comparison.methods[method].policy else (None,)
