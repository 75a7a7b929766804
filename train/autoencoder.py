"""The VAE: what its configuration computes, how it is shown, and how a classifier takes it from its run folder."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix import vae
from train import augmentation, checkpoints, checks, data, figures, loop, optimizers, parallel, steps
from train import config as config_lib
from train.config import UsageError, VaeConfig
from train.data import Dataset
from train.objectives import Codec
from train.reporting import Column, Display

DISPLAY = Display(
    columns=(Column("reconstruction", "squared error per image", ".3f"), Column("kl", "KL (nats)", ".1f")),
    draw_curves=figures.draw_vae_curves,
)


class Sums(NamedTuple):
    """What evaluation adds up over batches, devices and hosts."""

    total: Array
    reconstruction: Array
    kl: Array


def train_and_evaluate(config: VaeConfig, workdir: pathlib.Path) -> steps.TrainState:
    """Trains a VAE, or goes on; see train.loop."""
    return loop.train_and_evaluate(config, workdir, build)


def build(config: VaeConfig, dataset: Dataset) -> loop.Program:
    """Builds all that a run computes; nothing is compiled yet.

    Raises:
      UsageError: if the configuration does not fit its data or the devices.
    """
    _check(config, dataset)
    split = dataset.splits["train"]
    augment = augmentation.build(config.data.augmentation, split.shape, cropped=split.resident[0] is None)
    model, learning_rate = _model(config, dataset), _learning_rate(config, dataset)
    step = functools.partial(
        steps.train_step,
        model=model,
        augment=augment,
        objective=functools.partial(objective, config=config.vae, mean=dataset.mean, std=dataset.std),
        optimizer=optimizers.build(config.optimizer, learning_rate),
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS,
    )
    train_step = parallel.train_step(step)
    return loop.Program(
        init=functools.partial(init, config, dataset),
        train_step=lambda epoch: train_step,
        eval_step=parallel.eval_step(functools.partial(eval_step, model=model, axis_name=parallel.AXIS)),
        measures=lambda sums: {
            "reconstruction": float(sums.reconstruction / sums.total),
            "kl": float(sums.kl / sums.total),
        },
        learning_rate=learning_rate,
        display=DISPLAY,
        first_inputs=functools.partial(
            steps.first_inputs,
            augment=augment,
            mix=lambda batch, labels, rng: (batch, labels),
            num_classes=dataset.num_classes,
        ),
    )


def init(config: VaeConfig, dataset: Dataset, rng: Array) -> steps.TrainState:
    """The state before the first step."""
    optimizer = optimizers.build(config.optimizer, _learning_rate(config, dataset))
    sample = jnp.zeros((1, *dataset.splits["train"].shape), jnp.float32)
    return steps.init(_model(config, dataset), optimizer, rng, sample, rng)


def objective(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    step: Array,
    *,
    config: config_lib.Autoencoder,
    mean: ArrayLike,
    std: ArrayLike,
) -> tuple[Array, dict[str, Array]]:
    """The loss of a VAE, of normalised inputs, and its terms to log."""
    images = batch * std + mean
    sample_rng, prior_rng = jax.random.split(rng)
    loss, terms = vae.vae_loss(
        images,
        model(images, sample_rng),
        prior_rng,
        mmd_weight=config.mmd_weight,
        kl_weight=config.kl_weight,
        kernel=config.kernel,  # type: ignore[arg-type]
    )
    return loss, {"loss": loss, **terms._asdict()}


def eval_step(
    state: steps.TrainState,
    samples: steps.Samples,
    batch: data.Batch,
    weights: Array,
    *,
    model: vae.VAE,
    axis_name: str,
) -> Sums:
    """Measures this device's share of a batch, decoded from the means of its posterior, and adds up over devices."""
    images, _ = samples.take(batch)
    apply: Any = functools.partial(model.apply, {"params": state.params})
    mean, log_variance = apply(images, method="encode")
    errors = jnp.sum((apply(mean, method="decode") - images) ** 2, axis=(1, 2, 3))
    divergences = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=1)
    sums = Sums(jnp.sum(weights), jnp.sum(weights * errors), jnp.sum(weights * divergences))
    return jax.lax.psum(sums, axis_name)


def load(folder: pathlib.Path) -> tuple[VaeConfig, Dataset, Codec]:
    """Restores the newest checkpoint of a run of train.vae.

    Args:
      folder: the run folder.

    Returns:
      The run's configuration, its data, and its encoder and decoder of images in [0, 1], with
      their parameters bound: posterior means, likelihood means.

    Raises:
      UsageError: if there is no such run or no checkpoint.
    """
    config = config_lib.read(folder / "config.json", VaeConfig)
    dataset = data.load(config.data, seed=config.seed)
    like = parallel.place(jax.jit(functools.partial(init, config, dataset))(jax.random.key(0)))
    saved = checkpoints.Checkpoints(folder / "checkpoints")
    restored = saved.restore(like)
    saved.close()
    if restored is None:
        raise UsageError(f"{folder} has no checkpoint yet")
    apply: Any = functools.partial(_model(config, dataset).apply, {"params": jax.device_get(restored.params)})
    return (
        config,
        dataset,
        Codec(lambda images: apply(images, method="encode")[0], lambda latents: apply(latents, method="decode")),
    )


def for_classifier(folder: str, config: config_lib.Data, dataset: Dataset) -> Codec:
    """The VAE of a run folder around the normalised inputs of a classifier.

    Args:
      folder: the run folder of train.vae.
      config: the classifier's data.
      dataset: those, loaded.

    Raises:
      UsageError: if there is no such run, or it is one of other images.
    """
    path = pathlib.Path(folder).expanduser()
    remedy = f"train one by python -m train.vae --config.data.name={config.name} --workdir={folder or 'FOLDER'}"
    if not folder or not (path / "config.json").exists():
        raise UsageError(f"mix.vae={folder!r} is no run folder of train.vae: {remedy}")
    found, images, vae = load(path)
    shapes = [data.splits["train"].shape for data in (images, dataset)]
    if found.data.name != config.name or shapes[0] != shapes[1]:
        raise UsageError(
            f"mix.vae={folder} is of {found.data.name} {shapes[0]}, and this run of {config.name} {shapes[1]}: {remedy}"
        )
    mean, std = dataset.mean, dataset.std
    return Codec(lambda x: vae.encode(x * std + mean), lambda z: (vae.decode(z) - mean) / std)


def _check(config: VaeConfig, dataset: Dataset) -> None:
    """Raises a UsageError, naming what would work, where numbers do not fit one another."""
    checks.check_run(config, dataset, devices=jax.device_count())
    shape, size = dataset.splits["train"].shape, config.data.batch_size
    if len(shape) != 3 or min(shape[:2]) < 8:
        raise UsageError(f"a VAE takes images with sides of at least 8, not samples of shape {shape}")
    if size < 2 * jax.device_count():
        raise UsageError(f"data.batch_size={size}: take at least two samples for each device")
    if config.vae.mmd_weight < 0 or config.vae.kl_weight < 0:
        raise UsageError("vae.mmd_weight and vae.kl_weight must be at least 0")
    if config.judge_epochs < 0:
        raise UsageError(f"judge_epochs must be at least 0, got {config.judge_epochs}")
    config_lib.known("kernel", config.vae.kernel, ["gaussian", "inverse_multiquadric"])


def _model(config: VaeConfig, dataset: Dataset) -> vae.VAE:
    return _of_shape(config, dataset.splits["train"].shape)


def _of_shape(config: VaeConfig, shape: tuple[int, ...]) -> vae.VAE:
    height, width, channels = shape
    return vae.VAE((height, width, channels), config.vae.latent_size, tuple(config.vae.widths))


def _learning_rate(config: VaeConfig, dataset: Dataset):
    steps_per_epoch = len(dataset.splits["train"]) // config.data.batch_size
    return optimizers.schedule(config.optimizer, steps_per_epoch=steps_per_epoch, num_epochs=config.num_epochs)
