"""The classifier: what its configuration computes, and how it is shown."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmix.evaluation import calibration
from train import augmentation, autoencoder, checks, loop, models, objectives, optimizers, parallel, steps
from train.config import Config
from train.data import Dataset
from train.figures import Line, Panel
from train.reporting import Column, Display


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
    """Trains a classifier, or goes on; see train.loop."""
    return loop.train_and_evaluate(config, workdir, build, **options)


def build(config: Config, dataset: Dataset) -> loop.Program:
    """Builds all that a run computes; nothing is compiled yet.

    Raises:
      UsageError: if the configuration does not fit its data or the devices.
    """
    named = config.mix.vae or config.mix.method == "varmixup"
    vae = autoencoder.for_classifier(config.mix.vae, config.data, dataset) if named else None
    checks.check(config, dataset, devices=jax.device_count(), vae=vae)
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
        axis_name=parallel.AXIS,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
    )
    clean = dataclasses.replace(config.mix, method="erm", probability=1.0, clean_weight=0.0, vae="")
    mixed_step, clean_step = (
        parallel.train_step(functools.partial(step, objective=objectives.build(mix, num_steps=num_steps, vae=codec)))
        for mix, num_steps, codec in ((config.mix, mixed_epochs * steps_per_epoch, vae), (clean, 0, None))
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
            mix=objectives.slots(config.mix, config.mix.alpha, vae).inputs,
            num_classes=dataset.num_classes,
            accumulate=config.optimizer.accumulate,
        ),
        model=(model, _sample(dataset)),
        keep_best=config.keep_best,
    )


def parts(config: Config, dataset: Dataset) -> tuple[models.Classifier, optax.GradientTransformation, optax.Schedule]:
    """The model, the optimiser and its learning rate."""
    train_split = dataset.splits["train"]
    learning_rate = optimizers.schedule(
        config.optimizer,
        steps_per_epoch=len(train_split) // config.data.batch_size,
        num_epochs=config.num_epochs,
    )
    model = models.build(config.model, train_split.shape, dataset.num_classes)
    return model, optimizers.build(config.optimizer, learning_rate), learning_rate


def init(config: Config, dataset: Dataset, rng: jax.Array) -> steps.TrainState:
    """The state before the first step."""
    model, optimizer, _ = parts(config, dataset)
    return steps.init(model, optimizer, rng, _sample(dataset), ema=config.optimizer.ema)


def _sample(dataset: Dataset) -> jax.Array:
    return jnp.zeros((1, *dataset.splits["train"].shape), jnp.float32)


def measures(sums: steps.Sums) -> dict[str, float]:
    """Of a whole split."""
    return {
        "accuracy": float(sums.correct / sums.total),
        "nll": float(sums.nll / sums.total),
        "ece": float(calibration.expected_calibration_error(sums.bins)),
    }
