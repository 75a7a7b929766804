"""Finds the shapes of a model's maps at the places where they may be mixed, without compiling."""

import functools

from flax import linen as nn
import jax
from jax import Array

from train import user_code
from train.errors import UsageError
from train.models.classifier import STAGED, lacking


def embedding(model: nn.Module, name: str, inputs: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """What is mixed behind the pooling, of a model that has features and pool.

    Args:
      model: it.
      name: of it, for messages.
      inputs: a batch of them.
    """

    def pooled(model: nn.Module, inputs: Array) -> Array:
        return model.pool(model.features(inputs, train=True))

    init = functools.partial(model.init_with_output, method=pooled)
    with user_code.blamed(name):
        found, _ = jax.eval_shape(init, {"params": jax.random.key(0), "dropout": jax.random.key(1)}, inputs)
    return found


def shapes(model: nn.Module, name: str, inputs: jax.ShapeDtypeStruct) -> dict[str, jax.ShapeDtypeStruct]:
    """What is mixed at each of them, by their names: the inputs, then maps.

    Args:
      model: one with stages.
      name: of it, for messages.
      inputs: a batch of them.

    Raises:
      UsageError: if the model has no stages, or goes through others than it names.
    """
    missing = lacking(model, STAGED)
    names = () if missing else tuple(model.stages)
    if not names:
        what = f"has no {', '.join(missing)}" if missing else "names no stages"
        raise UsageError(
            f"model {name} {what}, so it has no layer to mix: take mix.space=inputs, or see train/models/classifier.py"
        )
    seen: list[tuple[int, jax.ShapeDtypeStruct]] = []

    def between(stage: int, maps: Array) -> Array:
        seen.append((stage, jax.ShapeDtypeStruct(maps.shape, maps.dtype)))
        return maps

    features = functools.partial(model.init, train=True, between=between, method="features")
    with user_code.blamed(name):
        jax.eval_shape(features, {"params": jax.random.key(0), "dropout": jax.random.key(1)}, inputs)
    found = [stage for stage, _ in seen]
    if found != list(range(1, len(names) + 1)):
        raise UsageError(
            f"model {name} names the stages {', '.join(names)}, but calls between for {found}: "
            f"it must call between once for each stage, counted from 1"
        )
    return {"inputs": inputs} | dict(zip(names, (maps for _, maps in seen), strict=True))
