"""Chooses a run's best checkpoint by a measure of its validation split."""

from collections.abc import Mapping

from train.config import Config, known
from train.errors import UsageError

AVERAGED = "ema_"  # begins the name of a measure of averaged parameters
SIGNS = {"accuracy": 1, "nll": -1}  # -1: the lower, the better


def check(config: Config, splits: Mapping[str, object]) -> None:
    """Raises a UsageError unless what is to be kept can be chosen."""
    measure = config.keep_best
    if not measure:
        return
    known("measure", measure, [*SIGNS, *(f"{AVERAGED}{name}" for name in SIGNS)], prefix="--config.keep_best=")
    if measure.startswith(AVERAGED) and not config.optimizer.ema:
        raise UsageError(f"keep_best={measure} needs averaged parameters: set --config.optimizer.ema=0.999, too")
    if "validation" not in splits:
        raise UsageError(
            f"keep_best={measure} chooses by a validation split, and there is none: hold samples out by "
            "--config.data.num_validation, since the test split must not choose"
        )


def score(measure: str, measured: Mapping[str, float]) -> float | None:
    """The higher, the better; None where the measure was not taken."""
    return SIGNS[measure.removeprefix(AVERAGED)] * measured[measure] if measure in measured else None
