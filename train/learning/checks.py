"""Checks a configuration against its data and devices, before anything is compiled."""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from train import models
from train.config import Config, VaeConfig, known
from train.data import Dataset
from train.errors import UsageError, line
from train.learning import mixing, objectives, optimizers
from train.models import own, stages
from train.models.classifier import MAPS, lacking


def check(config: Config, dataset: Dataset, *, devices: int, codec: mixing.Codec | None = None) -> None:
    """Raises a UsageError that names the remedy if parts of a configuration do not fit together.

    Args:
      config: the configuration.
      dataset: the loaded data.
      devices: number of devices that share a batch.
      codec: the VAE to mix with, if one is configured.
    """
    mix = config.mix
    known("space", mix.space, objectives.Slots._fields)
    check_run(config, dataset, devices=devices)
    if not 0 <= mix.clean_epochs < config.num_epochs:
        raise UsageError(
            f"mix.clean_epochs={mix.clean_epochs}: take from 0 to {config.num_epochs - 1}, or mix.policy=erm"
        )
    ends = mixing.ends_of(mix, codec)
    chosen = [getattr(end, "func", end) for end in ends]
    dense = objectives.dense_multimix in chosen
    weighed = any(getattr(end, "keywords", {}).get("clean_weight") for end in ends)
    if dense and config.model.name == "vit" and not weighed:
        raise UsageError(
            "mix.policy=dense_multimix hardly trains a vit's class token, which is one position of many: "
            "take mix.clean_weight=1"
        )
    shape, classes = dataset.splits["train"].shape, dataset.num_classes
    model, own_model = models.build(config, shape, classes), ":" in config.model.name
    if own_model:
        own.check(model, config.model.name, shape, classes)
    missing = lacking(model, MAPS)
    if missing and (mix.space == "embeddings" or dense):
        asked = "mix.space=embeddings" if mix.space == "embeddings" else f"mix.policy={mix.policy}"
        raise UsageError(
            f"model {config.model.name} has no {', '.join(missing)}, which {asked} needs: "
            "mix its inputs or logits, or see train/models/classifier.py"
        )
    if objectives.transmix in chosen and (
        lacking(model, (*MAPS, "attention")) if own_model else config.model.name != "vit"
    ):
        raise UsageError(
            f"mix.policy={mix.policy} needs the attention of a class token, which model {config.model.name} does not "
            "have: take model.name=vit, or see train/models/classifier.py"
        )
    n = config.data.batch_size // devices // config.optimizer.accumulate
    inputs = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((n, int(classes)), jnp.float32)
    if mix.space == "layers":
        places = stages.shapes(model, config.model.name, inputs)
    elif mix.space == "embeddings":
        places = {mix.space: stages.embedding(model, config.model.name, inputs)}
    else:
        places = {mix.space: inputs if mix.space == "inputs" else labels}
    mixing.check(mix, places, labels, codec=codec)
    for objective in filter(mixing.is_objective, ends):
        _objective_fits(objective, model, inputs, labels, what=f"config.mix.policy {mix.policy!r}")


def _objective_fits(objective: objectives.Objective, model: nn.Module, inputs: Any, labels: Any, *, what: str) -> None:
    """Raises a UsageError if an objective fails with the model, or does not return a loss and metrics."""
    variables = fits(functools.partial(model.init, train=False), jax.random.key(0), inputs, what="config.model")
    bound = nn.apply(objective, model, mutable=("batch_stats", "intermediates"))
    dropout = functools.partial(bound, rngs={"dropout": jax.random.key(1)})
    found, _ = fits(dropout, variables, inputs, labels, jax.random.key(0), what=what)
    pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)
    if not pair or any(getattr(leaf, "shape", None) != () for leaf in (found[0], *found[1].values())):
        raise UsageError(f"{what} must return a loss of shape () and a dict of metrics of shape ()")


def check_run(config: Config | VaeConfig, dataset: Dataset, *, devices: int) -> None:
    """Checks the fields that every run has."""
    if config.num_epochs < 1:
        raise UsageError(f"num_epochs must be at least 1, got {config.num_epochs}")
    if not 0 <= config.seed < 2**32:
        raise UsageError(f"seed must be from 0 to {2**32 - 1}, got {config.seed}")
    for name in ("checkpoint_steps", "eval_epochs"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(config, name)}")
    optimizers.check(config.optimizer, config.num_epochs)
    _check_batch(config.data.batch_size, len(dataset.splits["train"]), devices, config.optimizer.accumulate)


def _check_batch(batch_size: int, n: int, devices: int, accumulate: int) -> None:
    """Checks that devices share the batch evenly, in equal parts."""
    unit = devices * accumulate
    if unit <= batch_size <= n and batch_size % unit == 0:
        return
    most = n // unit * unit
    parts = f", in optimizer.accumulate={accumulate} parts each" if accumulate > 1 else ""
    fewer = f"fewer {' or '.join(['devices'] * (devices > 1) + ['parts'] * (accumulate > 1))}"
    multiple = f"a multiple of {unit} from {unit} to {most}" if unit > 1 else f"from 1 to {n}"
    advice = multiple if most else fewer
    shared = f"{devices} devices and " if devices > 1 else ""
    raise UsageError(f"data.batch_size={batch_size} does not fit {shared}{n} training samples{parts}: take {advice}")


def fits(function: Callable, *arguments: Any, what: str) -> Any:
    """Returns the shapes that a function returns; turns its errors into a UsageError."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # of a user's function, too
        raise UsageError(f"{what}: {line(error)}") from None
