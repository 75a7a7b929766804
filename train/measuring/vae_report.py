"""Reports on a trained VAE: a sheet of pictures, and a classifier's accuracy on reconstructions."""

from collections.abc import Callable
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from jaxmix.vae import squared_mmd
from train import config as config_lib
from train import data
from train.config import Config, Mix, Model, VaeConfig
from train.learning import steps
from train.learning.mixing import Codec
from train.measuring import predictor, sections
from train.running import figures, parallel, reporting, run_folder
from train.tasks import autoencoder, classifier

NUM_SHOWN, NUM_PAIRS, NUM_MEASURED = 10, 3, 2000
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
ENOUGH = 0.8  # of the accuracy on clean images


def write(folder: pathlib.Path) -> None:
    """Leaves sheet.png and quality.json in the folder of a VAE's run, and prints what they say."""
    config = config_lib.read(folder / "config.json", VaeConfig)
    if config.judge_epochs:
        _train_judge(config, folder / "judge")
    if not parallel.leads():
        return
    inputs, labels = data.load(config.data, seed=config.seed).splits["test"].read()
    images = np.asarray(steps.pixels(jnp.asarray(inputs)))
    vae = autoencoder.load(folder, images.shape[1:])
    codes = _in_batches(vae.encode, images)
    decoded = _in_batches(vae.decode, codes)
    captions = {"mixup, pair 1": [f"{share:.0%} of 1st" for share in SHARES]}
    figures.draw_sheet(sheet(vae, images, np.asarray(labels)), captions, config.title, folder / "sheet.png")
    prior = jax.random.normal(jax.random.key(0), codes[:NUM_MEASURED].shape)
    values = {
        "reconstruction": float(np.square(decoded - images).sum(axis=(1, 2, 3)).mean()),
        "latent_mmd": float(squared_mmd(jnp.asarray(codes[:NUM_MEASURED]), prior)),
        "latent_norm": float(np.linalg.norm(codes, axis=1).mean() / np.sqrt(codes.shape[1])),
    }
    lines = [
        ("squared error per image", f"{values['reconstruction']:.3f}"),
        ("MMD of latents to prior", f"{values['latent_mmd']:.5f}"),
        ("norm of latents to prior's", f"{values['latent_norm']:.2f}"),
    ]
    if config.judge_epochs:
        _, _, judge = predictor.load(folder / "judge")
        clean, known = (
            sections.accuracy_of(judge.map(sections.outputs, part), jnp.asarray(labels)) for part in (images, decoded)
        )
        values |= {"clean_accuracy": clean, "reconstructed_accuracy": known}
        lines += [("judge, clean images", f"{clean:.2%}"), ("judge, reconstructions", f"{known:.2%}")]
    run_folder.write_json(folder / "quality.json", values)
    print(reporting.table([*lines, ("pictures", str(folder / "sheet.png"))]))
    if config.judge_epochs and known < ENOUGH * clean:
        print(
            f"WARNING: a classifier recognises {known:.1%} of the reconstructions and {clean:.1%} of the images. "
            "Mixing such latents teaches little: train longer, or with more vae.latent_size, vae.widths or data"
        )


def sheet(vae: Codec, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of pictures, by name: the first images, and pairs of different classes, mixed either way."""
    shown = jnp.asarray(images[:NUM_SHOWN])
    size = vae.encode(shown[:1]).shape[1:]
    rows = {
        "images": shown,
        "reconstructions": vae.decode(vae.encode(shown)),
        "samples of the prior": vae.decode(jax.random.normal(jax.random.key(0), (NUM_SHOWN, *size))),
    }
    for i in range(min(NUM_PAIRS, len(images))):
        others = np.flatnonzero(labels != labels[i])
        later = others[others > NUM_PAIRS + i]
        pair = jnp.asarray(images[[i, (later if len(later) else others)[0]]])
        rows[f"mixup, pair {i + 1}"] = jnp.concatenate([mixed(pair, share) for share in SHARES])
        codes = vae.encode(pair)
        rows[f"varmixup, pair {i + 1}"] = jnp.concatenate([vae.decode(mixed(codes, share)) for share in SHARES])
    return {name: np.asarray(row) for name, row in rows.items()}


def mixed(pair: jax.Array, share: float) -> jax.Array:
    """One of two: the first one's share, and the rest the other's."""
    return jaxmix.apply(jaxmix.Mix(jnp.array([1, 0]), jnp.full(2, share)), pair)[0][:1]


def _train_judge(config: VaeConfig, folder: pathlib.Path) -> None:
    """A small CNN on clean images."""
    judge = Config(
        data=config.data, model=Model(width=16), mix=Mix("erm"), num_epochs=config.judge_epochs, seed=config.seed
    )
    if run_folder.finished(folder, judge) is None:
        classifier.train_and_evaluate(judge, folder)


def _in_batches(function: Callable[[jax.Array], jax.Array], array: np.ndarray, size: int = 500) -> np.ndarray:
    """A function of many samples."""
    compiled = jax.jit(function)
    return np.concatenate([np.asarray(compiled(array[i : i + size])) for i in range(0, len(array), size)])
