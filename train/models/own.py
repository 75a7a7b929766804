"""Makes a user's own model, MODULE:FUNCTION, and checks it before anything is compiled."""

from collections.abc import Sequence
import functools
import inspect
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from train import config as config_lib
from train import user_code
from train.errors import UsageError
from train.models.classifier import MAPS, lacking

MUTABLE = ("batch_stats", "intermediates")


def build(config: config_lib.Config, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """What the function makes of a configuration, the shape of an input and the number of classes."""
    name = config.model.name
    model = user_code.call(name, config, tuple(input_shape), num_classes)
    if not isinstance(model, nn.Module):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise UsageError(f"{name} returns {what}: it must return a module of flax.linen")
    return model


def check(model: nn.Module, name: str, input_shape: Sequence[int], num_classes: int) -> None:
    """Raises a UsageError unless the model makes logits [n, classes] of inputs, in training and outside of it.

    Args:
      model: it.
      name: of it, for messages.
      input_shape: without the batch.
      num_classes: of the logits.
    """
    parameters = inspect.signature(type(model).__call__).parameters.values()
    if not any(each.name == "train" or each.kind == each.VAR_KEYWORD for each in parameters):
        raise UsageError(f"{name}: its module's __call__ has no argument train: write __call__(self, inputs, train)")
    with user_code.blamed(name):
        hash(model)  # for programs are kept by their models
        inputs = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
        variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), inputs)
        logits = [
            jax.eval_shape(functools.partial(_logits, model, train), variables, inputs) for train in (True, False)
        ]
    foreign = sorted(set(variables) - {"params", "batch_stats"})
    if foreign or "params" not in variables:
        has = f"variables in {', '.join(foreign)}" if foreign else "no parameters"
        raise UsageError(
            f"{name}: its module has {has}: params are trained, and only batch_stats may be kept beside them"
        )
    if not lacking(model, MAPS):
        with user_code.blamed(name):
            maps, embedding, *more = jax.eval_shape(functools.partial(_maps, model), variables, inputs)
        if len(maps.shape) != 3 or len(embedding.shape) != 2:
            raise UsageError(
                f"{name}: features returns {maps.shape} and pool {embedding.shape} of 2 samples: "
                "they must return maps [n, r, d] and embeddings [n, d]"
            )
        logits += more
    for found in logits:
        if getattr(found, "shape", None) != (2, num_classes) or not jnp.issubdtype(found.dtype, jnp.floating):
            what = f"{found.dtype}{list(found.shape)}" if hasattr(found, "shape") else f"a {type(found).__name__}"
            raise UsageError(
                f"{name}: its module returns {what} for 2 samples of shape {tuple(input_shape)} and {num_classes} "
                f"classes: it must return logits, float32[2, {num_classes}]"
            )


def _logits(model: nn.Module, train: bool, variables: Any, inputs: Any) -> Any:
    if not train:
        return model.apply(variables, inputs, train=False)
    return model.apply(variables, inputs, train=True, mutable=MUTABLE, rngs={"dropout": jax.random.key(0)})[0]


def _maps(model: nn.Module, variables: Any, inputs: Any) -> tuple[Any, Any, Any]:
    apply = functools.partial(model.apply, variables)
    maps = apply(inputs, train=False, method="features")
    embedding = apply(maps, method="pool")
    return maps, embedding, apply(embedding, method="classify")
