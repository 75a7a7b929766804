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
    """Mixup's test-time correction, or half of it, as a Wrap."""

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
    """The functions of a model on inputs: images in [0, 1], or unchanged rows."""

    logits: PredictFn
    embedding: PredictFn


class Predictor:
    """A model with its state, in evaluation mode, which normalises its inputs.

    Args:
      model: the model.
      state: its parameters and batch statistics.
      mean: mean of the inputs per channel.
      std: standard deviation of the inputs per channel.
      means: means of the training data.
      batch_size: samples per batch over all devices; results do not depend on it.

    Attributes:
      progress: a function to call after each batch.
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
        """Returns whether the model has embeddings."""
        return not lacking(self._model, MAPS)

    def wrapped(self, wrap: Wrap | None) -> "Predictor":
        """Returns the same model with a wrapped logits function, for measures and attacks."""
        other = copy.copy(self)
        other._wrap = wrap
        return other

    def map(self, function: Callable, *arrays: Any, parameters: Any = None, **options: Any) -> Any:
        """Calls function(maps, *arrays, parameters, **options) in batches, on all devices.

        Args:
          function: a function at module level, so that it is compiled once; its results start with an axis of samples.
          *arrays: host arrays that start with an axis of samples.
          parameters: numbers that are the same for all samples, passed if not None.
          **options: hashable options, which are part of the compiled program.

        Returns:
          The function's results for all samples in order, on the host.
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
      best: whether to load the best checkpoint instead of the newest.
      ema: whether to load averaged parameters instead of the last ones.
      data_dir: folder with the prepared data of tfds, if not the run's own.
      manual_dir: folder with original files, if not the run's own.
      **options: options of the Predictor.

    Returns:
      The run's configuration, its data and its model.

    Raises:
      UsageError: if there is no run or no such checkpoint, or its data are missing.
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
    """Restores the model of a checkpoint in a run folder.

    Args:
      folder: the run folder.
      config: the run's configuration.
      dataset: the run's data; its samples are not used.
      best: whether to load the best checkpoint instead of the newest.
      ema: whether to load averaged parameters instead of the last ones.
      **options: options of the Predictor.

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
    """Raises a UsageError if the run has not kept the requested parameters."""
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
    """Fills up the last batch with its last sample, so that all batches have the same shape."""
    return part if len(part) == size else part[np.minimum(np.arange(size), len(part) - 1)]


def _merged(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])
