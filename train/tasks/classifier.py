"""The classifier's task: steps from a configuration, and reports."""

import functools
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxmix.evaluation import calibration
from train import models
from train.config import Config
from train.data import Dataset, augmentation
from train.learning import checks, mixing, optimizers, steps
from train.running import best, loop, parallel
from train.running.figures import Line, Panel
from train.running.reporting import Column, Display
from train.tasks import autoencoder


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)


DISPLAY = Display(
    columns=(
        Column("accuracy", "accuracy", ".2%"),
        Column("nll", "NLL", ".4f"),
        Column("ece", "ECE", ".4f"),
    ),
    training=(Column("clean_accuracy", "clean accuracy", ".2%"),),
    panels=(
        Panel(
            "cross-entropy (nats)",
            (Line("train_loss", "training, mixed labels"), Line("{split}_nll", "{split}, true labels")),
        ),
        Panel(
            "error (%)",
            (
                Line("train_clean_accuracy", "training, not mixed", _error),
                Line("{split}_accuracy", "{split}", _error),
            ),
        ),
    ),
)


def train_and_evaluate(config: Config, workdir: pathlib.Path, **options: Any) -> steps.TrainState:
    """Trains a classifier, or goes on; see train.running.loop."""
    return loop.train_and_evaluate(config, workdir, build, **options)


def build(config: Config, dataset: Dataset) -> loop.Program:
    """Builds all that a run computes; nothing is compiled yet.

    Raises:
      UsageError: if the configuration does not fit its data or the devices.
    """
    codec = autoencoder.for_mixing(config.mix, config.data, dataset)
    best.check(config, dataset.splits)
    checks.check(config, dataset, devices=jax.device_count(), codec=codec)
    train_split = dataset.splits["train"]
    steps_per_epoch = len(train_split) // config.data.batch_size
    mixed_epochs = config.num_epochs - config.mix.clean_epochs
    model, optimizer, learning_rate = parts(config, dataset)
    augment = augmentation.build(config.data.augmentation, train_split.shape, cropped=train_split.resident[0] is None)
    step = functools.partial(
        steps.train_step,
        model=model,
        augment=augment,
        optimizer=optimizer,
        num_classes=dataset.num_classes,
        label_smoothing=config.mix.label_smoothing,
        axis_name=parallel.AXIS,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
    )
    mixed_step, clean_step = (
        parallel.train_step(functools.partial(step, objective=objective))
        for objective in (
            mixing.build(config.mix, num_steps=mixed_epochs * steps_per_epoch, codec=codec),
            mixing.build(mixing.clean(config.mix), num_steps=0),
        )
    )
    return loop.Program(
        init=functools.partial(init, config, dataset),
        train_step=lambda epoch: mixed_step if epoch < mixed_epochs else clean_step,
        eval_step=parallel.eval_step(functools.partial(steps.eval_step, model=model, axis_name=parallel.AXIS)),
        measures=measures,
        learning_rate=learning_rate,
        display=DISPLAY,
        first_inputs=functools.partial(
            steps.first_inputs,
            augment=augment,
            mix=mixing.of_inputs(config.mix, codec),
            num_classes=dataset.num_classes,
            label_smoothing=config.mix.label_smoothing,
            accumulate=config.optimizer.accumulate,
        ),
        model=(model, (_sample(dataset),), {"train": False}),
        keep_best=config.keep_best,
    )


def parts(config: Config, dataset: Dataset) -> tuple[nn.Module, optax.GradientTransformation, optax.Schedule]:
    """The model, the optimiser and its learning rate."""
    train_split = dataset.splits["train"]
    learning_rate = optimizers.schedule(
        config.optimizer,
        steps_per_epoch=len(train_split) // config.data.batch_size,
        num_epochs=config.num_epochs,
    )
    model = models.build(config, train_split.shape, dataset.num_classes)
    return model, optimizers.build(config.optimizer, learning_rate), learning_rate


def init(config: Config, dataset: Dataset, rng: jax.Array) -> steps.TrainState:
    """The state before the first step."""
    model, optimizer, _ = parts(config, dataset)
    return steps.init(model, optimizer, rng, _sample(dataset), ema=config.optimizer.ema, train=False)


def _sample(dataset: Dataset) -> jax.Array:
    return jnp.zeros((1, *dataset.splits["train"].shape), jnp.float32)


def measures(sums: steps.Sums) -> dict[str, float]:
    """Of a whole split."""
    return {
        "accuracy": float(sums.correct / sums.total),
        "nll": float(sums.nll / sums.total),
        "ece": float(calibration.expected_calibration_error(sums.bins)),
    }
