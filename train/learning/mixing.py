"""Reads the mixing options of a configuration and makes an objective from them."""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

import jaxmix
from jaxmix import MixFn, policies
from jaxmix.combinators import erm
from train import user_code
from train.config import Mix
from train.errors import UsageError, line
from train.learning import expansions, objectives

OBJECTIVES = {
    "dense_multimix": objectives.dense_multimix,
    "transmix": objectives.transmix,
    "approximate_mixup": expansions.approximate_mixup,
    "linearized_mixup": expansions.linearized_mixup,
}
NAMES: Mapping[str, Any] = {**policies.NAMES, **OBJECTIVES}

StepObjective = Callable[[Any, Array, Array, Array, Array], tuple[Array, dict[str, Array]]]
"""An Objective that takes the number of steps taken before, too."""


class Codec(NamedTuple):
    """A generative model around normalised inputs: encode(inputs) -> latents, decode(latents) -> inputs."""

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]


def normal_form(config: Mix) -> str:
    """Returns the policy in the normal form that a run folder records."""
    try:
        return policies.normal_form(config.policy)
    except ValueError as error:
        raise UsageError(f"config.mix.{error}") from None


def takes_codec(config: Mix) -> bool:
    """Returns whether a function of the policy takes a VAE's encode and decode."""
    try:
        with user_code.current_folder():
            return {"encode", "decode"} <= policies.options(config.policy, names=NAMES)
    except ValueError as error:
        raise UsageError(f"config.mix.policy {config.policy!r}: {error}") from None


def lacks_codec(config: Mix) -> bool:
    """Returns whether it does, and the policy itself does not set them."""
    if not takes_codec(config):
        return False
    try:
        read(config)
    except ValueError:
        return True
    return False


def read(config: Mix, *, progress: Any = 0.0, codec: Codec | None = None) -> Any:
    """Returns the MixFn or Objective that the policy describes, at a progress from 0 to 1.

    Raises:
      ValueError: as `jaxmix.policy`.
    """
    given: dict[str, Any] = codec._asdict() if codec else {}
    read_policy = functools.partial(policies.read, config.policy, names=NAMES, progress=progress)
    with user_code.current_folder():
        value = read_policy(given=given)
        if is_objective(value) and config.clean_weight:
            if "clean_weight" in getattr(value, "keywords", {}):
                raise ValueError(
                    f"policy {config.policy!r}: clean_weight is given twice, there and by mix.clean_weight"
                )
            return read_policy(given=given | {"clean_weight": config.clean_weight})
        if is_objective(value):
            return value
        value = read_policy(kind=MixFn, given=given)
    return erm if getattr(value, "func", value) is erm else value


def is_objective(value: Any) -> bool:
    """Returns whether a function is an Objective: unlike a MixFn, it takes a model."""
    return callable(value) and list(inspect.signature(value).parameters)[:4] == ["model", "batch", "labels", "rng"]


def build(config: Mix, *, num_steps: int, codec: Codec | None = None) -> StepObjective:
    """Returns the objective of a configuration, for a number of mixed steps, with the VAE that it names."""

    def objective(model: Any, batch: Array, labels: Array, rng: Array, step: Array):
        progress = jnp.minimum(step / max(num_steps, 1), 1.0)
        value = read(config, progress=progress, codec=codec)
        if is_objective(value):
            loss, metrics = value(model, batch, labels, rng)
            return loss, {"loss": loss} | metrics
        if config.clean_weight and config.space == "inputs" and value is not erm:
            return objectives.mixed_and_clean(model, batch, labels, rng, mix=value, clean_weight=config.clean_weight)
        slots = objectives.Slots(**{config.space: value})
        return objectives.cross_entropy(model, batch, labels, rng, slots=slots, clean_weight=config.clean_weight)

    return objective


def clean(config: Mix) -> Mix:
    """Returns the same objective without mixing."""
    return Mix(policy="erm", label_smoothing=config.label_smoothing)


def of_inputs(config: Mix, codec: Codec | None = None) -> MixFn:
    """What is done to inputs at the first step."""
    value = read(config, progress=jnp.float32(0), codec=codec)  # traced, as a step's is: other draws of a fixed alpha
    function, options = getattr(value, "func", value), getattr(value, "keywords", {})
    if function in (expansions.approximate_mixup, expansions.linearized_mixup):
        return functools.partial(expansions.contracted, alpha=options.get("alpha", 1.0))
    if function is objectives.transmix:  # with labels by area
        return functools.partial(jaxmix.cutmix, **{name: options[name] for name in options if name != "attended"})
    return erm if config.space != "inputs" or is_objective(value) else value


def contraction(config: Mix) -> float | None:
    """The one alpha by which a model's samples and labels were contracted throughout, so that rescaling may undo that.

    None where there is none: where pairs are matched, some samples are left or seen clean, too, alpha changes, labels
    are smoothed, or the policy is of a module that is not here.
    """
    clean = config.clean_epochs or config.clean_weight
    try:
        if config.space != "inputs" or clean or config.label_smoothing or takes_codec(config):
            return None
        value, last = ends_of(config)
    except UsageError:
        return None
    options = getattr(value, "keywords", {})
    function = getattr(value, "func", value)
    alpha = options.get("alpha", 1.0)
    contracts = (
        function in (jaxmix.mixup, expansions.approximate_mixup, expansions.linearized_mixup)
        and options.get("pairing", jaxmix.pairings.permutation) is jaxmix.pairings.permutation
        and getattr(last, "keywords", {}).get("alpha", 1.0) == alpha
    )
    return alpha if contracts else None


def ends_of(config: Mix, codec: Codec | None = None) -> list[Any]:
    """What the policy describes before the first and after the last mixed step, or a UsageError."""
    try:
        return [read(config, progress=progress, codec=codec) for progress in (0.0, 1.0)]
    except ValueError as error:
        raise UsageError(f"config.mix.{error}") from None


def check_policy(config: Mix) -> None:
    """Raises a UsageError if the policy cannot be read, with any VAE."""
    ends_of(config, Codec(jnp.asarray, jnp.asarray) if takes_codec(config) and lacks_codec(config) else None)


def check(
    config: Mix,
    places: Mapping[str, jax.ShapeDtypeStruct],
    labels: jax.ShapeDtypeStruct,
    *,
    codec: Codec | None = None,
) -> None:
    """Raises a UsageError where the parts of a configuration, or a policy and what it mixes, do not fit one another.

    Args:
      config: of the mixing.
      places: what a MixFn is given on each device in its space, by what that is called; several where it is drawn.
      labels: of it.
      codec: of the VAE, where one is configured.
    """
    if not 0 <= config.label_smoothing < 1:
        raise UsageError(f"mix.label_smoothing={config.label_smoothing}: take from 0 to less than 1")
    if config.clean_weight < 0:
        raise UsageError(f"mix.clean_weight={config.clean_weight}: it must not be negative")
    ends = ends_of(config, codec)
    objective, nothing, shaped = is_objective(ends[0]), ends[0] is erm, config.space in ("inputs", "layers")
    if config.space != "inputs" and (objective or codec):
        reason = "is an objective of its own" if objective else "mixes inputs, which the VAE decodes"
        raise UsageError(f"mix.policy={config.policy} {reason}: do not set mix.space={config.space}")
    if nothing and config.clean_epochs:
        raise UsageError("mix.policy=erm mixes nothing: do not set mix.clean_epochs")
    if config.clean_weight and config.space == "layers" and not nothing:
        raise UsageError(
            f"mix.clean_weight={config.clean_weight}: it must be 0 where layers are mixed, "
            "since the later layers get no clean samples: mix inputs, embeddings or logits"
        )
    if objective:  # which is checked together with its model
        return

    follows = "linear" in config.policy  # else it is the same at any time

    def traced(batch: Array, labels: Array, rng: Array, progress: Array) -> tuple[Array, Array]:
        return read(config, progress=progress, codec=codec)(batch, labels, rng)

    for name, batch in places.items():
        what = f"config.mix.policy {config.policy!r}, of {name} {list(batch.shape)} on each device"
        for fn in ends if follows else ends[:1]:
            _fits(fn, batch, labels, what=what, shaped=shaped)
        if not follows:
            continue
        try:
            jax.eval_shape(traced, batch, labels, jax.random.key(0), jnp.float32(0))
        except Exception as error:  # of what had to be known before
            reason = line(error).removeprefix(f"policy {config.policy!r}: ")
            raise UsageError(f"{what}: linear is for numbers such as alpha: {reason[:120]}") from None


def _fits(fn: MixFn, batch: jax.ShapeDtypeStruct, labels: jax.ShapeDtypeStruct, *, what: str, shaped: bool) -> None:
    """Raises a UsageError where a MixFn does not take what it is given, or returns what cannot be gone on with."""
    try:
        mixed, targets = jax.eval_shape(fn, batch, labels, jax.random.key(0))
    except Exception as error:  # of a user's function, too
        raise UsageError(f"{what}: {line(error)}") from None
    if shaped and len(mixed) != len(batch):
        raise UsageError(f"{what}, returns {len(mixed)} samples: take mix.space=logits, or embeddings")
    expected = [jax.ShapeDtypeStruct((len(mixed), *of.shape[1:]), of.dtype) for of in (batch, labels)]
    pairs = zip((mixed, targets), expected, strict=True)
    if any((got.shape, got.dtype) != (wanted.shape, wanted.dtype) for got, wanted in pairs):
        got = f"{mixed.dtype}{list(mixed.shape)} with labels {targets.dtype}{list(targets.shape)}"
        raise UsageError(f"{what}, returns {got}: it must keep the shapes and dtypes of a sample and its label")
