"""The VAE's task: steps from a configuration, reports, and loading it from a run folder for mixing."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix import vae
from jaxmix.combinators import erm
from train import config as config_lib
from train.config import VaeConfig
from train.data import Dataset, augmentation, splits
from train.errors import UsageError
from train.learning import checks, mixing, optimizers, steps
from train.learning.mixing import Codec
from train.running import checkpoints, loop, parallel
from train.running.figures import Line, Panel
from train.running.reporting import Column, Display

DISPLAY = Display(
    columns=(Column("reconstruction", "squared error per image", ".3f"), Column("kl", "KL (nats)", ".1f")),
    training=(Column("mmd", "MMD", ".4f"),),
    panels=(
        Panel(
            "squared error per image",
            (
                Line("train_reconstruction", "training, sampled latents"),
                Line("{split}_reconstruction", "{split}, mean latents"),
            ),
        ),
        Panel("distance to the prior", (Line("train_mmd", "squared MMD of a training batch's latents"),)),
    ),
)


class Sums(NamedTuple):
    """What evaluation adds up over batches, devices and hosts."""

    total: Array
    reconstruction: Array
    kl: Array


def train_and_evaluate(config: VaeConfig, workdir: pathlib.Path, **options: Any) -> steps.TrainState:
    """Trains a VAE, or goes on; see train.running.loop."""
    return loop.train_and_evaluate(config, workdir, build, **options)


def build(config: VaeConfig, dataset: Dataset) -> loop.Program:
    """Builds all that a run computes; nothing is compiled yet.

    Raises:
      UsageError: if the configuration does not fit its data or the devices.
    """
    _check(config, dataset)
    split = dataset.splits["train"]
    augment = augmentation.build(config.data.augmentation, split.shape, cropped=split.resident[0] is None)
    model = _model(config, split.shape)
    learning_rate = optimizers.schedule(
        config.optimizer, steps_per_epoch=len(split) // config.data.batch_size, num_epochs=config.num_epochs
    )
    step = functools.partial(
        steps.train_step,
        model=model,
        augment=augment,
        objective=functools.partial(objective, config=config.vae, mean=dataset.mean, std=dataset.std),
        optimizer=optimizers.build(config.optimizer, learning_rate),
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
    )
    train_step = parallel.train_step(step)
    return loop.Program(
        init=functools.partial(init, config, split.shape),
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
            mix=erm,
            num_classes=dataset.num_classes,
            accumulate=config.optimizer.accumulate,
        ),
        model=(model, (jnp.zeros((1, *split.shape), jnp.float32), jax.random.key(0)), {}),
    )


def init(config: VaeConfig, shape: tuple[int, ...], rng: Array) -> steps.TrainState:
    """The state before the first step, for images of a shape."""
    optimizer = optimizers.build(config.optimizer, lambda step: 0.0)  # of any learning rate: its state is the same
    sample = jnp.zeros((1, *shape), jnp.float32)
    return steps.init(_model(config, shape), optimizer, rng, sample, rng, ema=config.optimizer.ema)


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
    loss, terms = _loss(config, images, model(images, sample_rng), prior_rng)
    return loss, {"loss": loss, **terms._asdict()}


def eval_step(
    state: steps.TrainState,
    samples: steps.Samples,
    batch: splits.Batch,
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
    divergences = vae.kl_divergence(mean, log_variance)
    sums = Sums(jnp.sum(weights), jnp.sum(weights * errors), jnp.sum(weights * divergences))
    return jax.lax.psum(sums, axis_name)


def load(folder: pathlib.Path, shape: tuple[int, ...]) -> Codec:
    """Restores the newest checkpoint of a run of train.vae.

    Args:
      folder: the run folder.
      shape: of its images.

    Returns:
      Its encoder and decoder of images in [0, 1], with their parameters bound, averaged ones where the run
      kept them: posterior means, likelihood means.

    Raises:
      UsageError: if there is no such run or no checkpoint.
    """
    config = config_lib.read(folder / "config.json", VaeConfig)
    like = parallel.place(jax.jit(functools.partial(init, config, shape))(jax.random.key(0)))
    saved = checkpoints.Checkpoints(folder / "checkpoints")
    restored = saved.restore(like)
    restored = restored.averaged() if config.optimizer.ema else restored
    apply: Any = functools.partial(_model(config, shape).apply, {"params": jax.device_get(restored.params)})
    return Codec(lambda images: apply(images, method="encode")[0], lambda latents: apply(latents, method="decode"))


def for_mixing(mix: config_lib.Mix, config: config_lib.Data, dataset: Dataset) -> Codec | None:
    """The VAE that a policy needs, or None; see `for_classifier`."""
    mixing.check_policy(mix)
    if mix.vae and not mixing.takes_codec(mix):
        raise UsageError(
            f"mix.vae={mix.vae} has no effect on mix.policy={mix.policy}: take varmixup(...), or mix reconstructions "
            f"by reconstructed({mix.policy}), or do not set it"
        )
    return for_classifier(mix.vae, config, dataset) if mix.vae or mixing.lacks_codec(mix) else None


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
        raise UsageError(f"mix.vae={folder!r} is not a run folder of train.vae: {remedy}")
    found = config_lib.read(path / "config.json", VaeConfig).data
    there, here = (f"{data.name}, image_size={data.image_size}, channels={data.channels}" for data in (found, config))
    if there != here:
        raise UsageError(f"mix.vae={folder} was trained on {there}, but this run trains on {here}: {remedy}")
    trained, mean, std = load(path, dataset.splits["train"].shape), dataset.mean, dataset.std
    return Codec(lambda x: trained.encode(x * std + mean), lambda z: (trained.decode(z) - mean) / std)


def _check(config: VaeConfig, dataset: Dataset) -> None:
    """Raises a UsageError, naming what would work, where numbers do not fit one another."""
    checks.check_run(config, dataset, devices=jax.device_count())
    shape, size = dataset.splits["train"].shape, config.data.batch_size
    if len(shape) != 3 or min(shape[:2]) < 8:
        raise UsageError(f"a VAE takes images with sides of at least 8, not samples of shape {shape}")
    if size < 2 * jax.device_count() * config.optimizer.accumulate:
        raise UsageError(f"data.batch_size={size}: take at least two samples for each device and part of the step")
    if config.judge_epochs < 0:
        raise UsageError(f"judge_epochs must be at least 0, got {config.judge_epochs}")
    images, latents = jnp.zeros((2, *shape)), jnp.zeros((2, 1))
    outputs = vae.Outputs(images, latents, latents, latents)
    loss = functools.partial(_loss, config.vae)
    checks.fits(loss, images, outputs, jax.random.key(0), what="config.vae")


def _loss(config: config_lib.Autoencoder, images: Array, outputs: vae.Outputs, rng: Array) -> tuple[Array, vae.Terms]:
    weights: dict[str, Any] = {name: getattr(config, name) for name in ("mmd_weight", "kl_weight", "kernel")}
    return vae.vae_loss(images, outputs, rng, **weights)


def _model(config: VaeConfig, shape: tuple[int, ...]) -> vae.VAE:
    height, width, channels = shape
    return vae.VAE((height, width, channels), config.vae.latent_size, tuple(config.vae.widths))
