"""Runs a trained model in batches on all devices, from host arrays to host arrays."""

from collections.abc import Callable
import copy
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from jaxmix import regularization
from jaxmix.evaluation.attacks import PredictFn
from train import config as config_lib
from train import data, models
from train.config import Config
from train.data import Dataset, Means
from train.errors import UsageError
from train.learning.steps import Samples, TrainState
from train.measuring.measures import Halves
from train.models.classifier import MAPS, lacking
from train.running import checkpoints, parallel, run_folder
from train.tasks import classifier

Wrap = Callable[[PredictFn, Means], PredictFn]
"""(normalised inputs -> logits, means of the training split) -> what is measured, and attacked, in place of it."""


@dataclasses.dataclass(frozen=True)
class Rescaling:
    """Mixup's test-time transformation, or half of it, as a Wrap."""

    alpha: float
    halves: Halves

    def __call__(self, predict: PredictFn, means: Means) -> PredictFn:
        """Wraps a logits function."""
        return regularization.rescale(
            predict,
            alpha=self.alpha,
            mean_batch=means.inputs,
            mean_labels=means.labels,
            inputs=self.halves.inputs,
            outputs=self.halves.outputs,
        )


class Maps(NamedTuple):
    """What a model makes of inputs: images in [0, 1], or rows as they are."""

    logits: PredictFn
    embedding: PredictFn


class Predictor:
    """A model with its state, in eval mode; it normalises what it is given.

    Args:
      model: the model.
      state: its parameters and batch statistics.
      mean: of the inputs, per channel.
      std: likewise.
      means: of the data that it was trained on.
      batch_size: samples per pass over the devices; results do not depend on it.

    Attributes:
      progress: called after each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        state: TrainState,
        mean: np.ndarray,
        std: np.ndarray,
        means: Means,
        *,
        batch_size: int = 500,
    ):
        self._model = model
        self._wrap: Wrap | None = None
        self.progress: Callable[[], object] = lambda: None
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        self._placed = parallel.place((variables, (Samples(None, None, mean, std), means)))
        self._batch_size = batch_size

    @property
    def embeds(self) -> bool:
        """Whether the model has embeddings."""
        return not lacking(self._model, MAPS)

    def wrapped(self, wrap: Wrap | None) -> "Predictor":
        """The same model, its logits function wrapped before it is measured, and attacked."""
        other = copy.copy(self)
        other._wrap = wrap
        return other

    def map(self, function: Callable, *arrays: Any, parameters: Any = None, **options: Any) -> Any:
        """Calls function(maps, *arrays, parameters, **options) in batches, on all devices.

        Args:
          function: of a module, so that it is compiled once; all it returns has a leading axis of samples.
          *arrays: host arrays with a leading axis of samples.
          parameters: numbers that are the same for all samples, given where not None.
          **options: hashable, and part of the compiled program.

        Returns:
          What function returns, on the host, for all samples in their order.
        """
        program = _compiled(self._model, self._wrap, function, parameters is not None, tuple(options.items()))
        n, devices = len(arrays[0]), jax.local_device_count()
        least = 1 << (n - 1).bit_length()  # so that there is not a program for each number of few samples
        size = -(-min(self._batch_size, least) // devices) * devices
        results = []
        for start in range(0, n, size):
            batch = [_padded(array[start : start + size], size) for array in arrays]
            result = program(*self._placed, parallel.split(batch), parameters)
            results.append(jax.tree.map(_merged, jax.device_get(result)))
            self.progress()
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *results)


def load(
    folder: pathlib.Path,
    *,
    best: bool = False,
    ema: bool = False,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    **options: Any,
) -> tuple[Config, Dataset, Predictor]:
    """Restores the newest checkpoint of a run, on the devices there are.

    Args:
      folder: the run folder.
      best: whether to take the best checkpoint in place of the newest.
      ema: whether to take averaged parameters in place of the last ones.
      data_dir: where tfds' data lie, if not where the run found them.
      manual_dir: of original files, likewise.
      **options: of the Predictor.

    Returns:
      The run's configuration, its data and its model.

    Raises:
      UsageError: if there is no run or no checkpoint, none such, or its data are missing.
    """
    config = config_lib.read(folder / "config.json", Config)
    _check(config, folder, best=best, ema=ema)
    config.data.data_dir = config.data.data_dir if data_dir is None else data_dir
    config.data.manual_dir = config.data.manual_dir if manual_dir is None else manual_dir
    dataset = data.load(config.data, seed=config.seed)
    if run_folder.data_changed(folder, dataset.digest):
        print(
            f"{config.data.name} has changed since {folder} was trained: numbers describe the data as they are now",
            flush=True,
        )
    return config, dataset, restored(folder, config, dataset, best=best, ema=ema, **options)


def restored(
    folder: pathlib.Path, config: Config, dataset: Dataset, *, best: bool = False, ema: bool = False, **options: Any
) -> Predictor:
    """The model that a checkpoint in a run folder holds.

    Args:
      folder: the run folder.
      config: of the run.
      dataset: of the run; its samples are not looked at.
      best: whether it is the best checkpoint, rather than the newest.
      ema: whether its parameters are the averaged ones.
      **options: of the Predictor.

    Raises:
      UsageError: if there is no such checkpoint.
    """
    _check(config, folder, best=best, ema=ema)
    shapes = jax.eval_shape(functools.partial(classifier.init, config, dataset), jax.random.key(0))
    like = parallel.place(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    saved = checkpoints.Checkpoints(folder / "checkpoints", keep_best=config.keep_best if best else "")
    shape, num_classes = dataset.splits["train"].shape, dataset.num_classes
    means = saved.means(Means(np.zeros(shape, np.float32), np.zeros(num_classes, np.float32)))
    state = saved.restore(like)
    state = state.averaged() if ema else state
    exact = dataclasses.replace(config.model, dtype="float32")  # whatever was trained in: attacks need its gradients
    model = models.build(dataclasses.replace(config, model=exact), shape, num_classes)
    return Predictor(model, state, dataset.mean, dataset.std, means, **options)


def _check(config: Config, folder: pathlib.Path, *, best: bool, ema: bool) -> None:
    """Raises a UsageError where the run has not kept what is asked for."""
    if best and not config.keep_best:
        raise UsageError(f"{folder} keeps no best checkpoint: train with --config.keep_best=accuracy")
    if ema and not config.optimizer.ema:
        raise UsageError(f"{folder} has no averaged parameters: train with --config.optimizer.ema=0.999")


@functools.cache  # runs of one configuration share their programs
def _compiled(model: nn.Module, wrap: Wrap | None, function: Callable, parametrised: bool, options: tuple) -> Any:
    def call(variables: Any, constants: tuple[Samples, Means], arrays: list[Array], parameters: Any) -> Any:
        statistics, means = constants

        def predict(inputs: Array) -> Array:
            return jnp.asarray(model.apply(variables, inputs, train=False), jnp.float32)

        measured = wrap(predict, means) if wrap else predict

        def logits(inputs: Array) -> Array:
            return measured(statistics.normalise(inputs))

        def embedding(inputs: Array) -> Array:
            maps = model.apply(variables, statistics.normalise(inputs), train=False, method="features")
            return jnp.asarray(model.apply(variables, maps, method="pool"), jnp.float32)

        maps = Maps(logits, embedding)
        extra = (parameters,) if parametrised else ()
        return function(maps, *arrays, *extra, **dict(options))

    return parallel.per_sample(call)


def _padded(part: Any, size: int) -> Any:
    """The last batch filled up with its last sample; all batches have one shape."""
    return part if len(part) == size else part[np.minimum(np.arange(size), len(part) - 1)]


def _merged(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])
