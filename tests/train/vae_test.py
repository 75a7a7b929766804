"""Runs of the VAE's program, and classifiers that mix with what it leaves."""

import functools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmix
from jaxmix import vae as vae_lib
from tests.train.conftest import once
from train import config, main, vae
from train.learning import mixing, steps
from train.learning.mixing import Codec
from train.measuring import predictor
from train.running import checkpoints, loop, parallel
from train.tasks import autoencoder

pytestmark = pytest.mark.slow

SMALL = config.VaeConfig(
    vae=config.Autoencoder(latent_size=4, widths=(4, 8)),
    optimizer=config.Optimizer(weight_decay=0.0, ema=0.9),
    num_epochs=2,
    judge_epochs=1,
    checkpoint_steps=5,
)
FLAGS = [
    "--config.vae.latent_size=4",
    "--config.vae.widths=(4,8)",
    "--config.optimizer.ema=0.9",
    "--config.num_epochs=2",
    "--config.judge_epochs=1",
]


@pytest.fixture(scope="module")
def folder(common, tmp_path_factory, programs):
    """A run of a VAE that has learnt little."""

    def make(folder):
        assert vae.main([*FLAGS, "--config.checkpoint_steps=5", f"--workdir={folder}"]) == 0

    return once(common, "vae", make, tmp_path_factory.mktemp("vae") / "run")


def rows_of(folder):
    """The metrics by epoch, but for the speed."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def test_a_run_leaves_pictures_and_its_quality_and_warns(folder, capsys):
    rows = rows_of(folder)
    assert rows[1]["train_reconstruction"] < rows[0]["train_reconstruction"]
    assert {"train_loss", "train_mmd", "train_kl", "test_reconstruction", "test_kl"} < set(rows[1])
    assert vae.main([*FLAGS, "--config.checkpoint_steps=5", f"--workdir={folder}"]) == 0  # ended: reports only
    output = capsys.readouterr().out
    quality = json.loads((folder / "quality.json").read_text())
    assert quality["reconstruction"] == pytest.approx(rows[1]["test_ema_reconstruction"], rel=1e-4)
    assert abs(rows[1]["test_reconstruction"] / rows[1]["test_ema_reconstruction"] - 1) > 1e-3
    assert quality["reconstructed_accuracy"] < 0.8 * quality["clean_accuracy"]
    assert f"judge, reconstructions      {quality['reconstructed_accuracy']:.2%}" in output
    assert "WARNING: a classifier recognises" in output
    for name in ("sheet.png", "curves.png", "inputs.png", "judge/curves.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_bit_for_bit(folder, tmp_path, monkeypatch):
    save = checkpoints.Checkpoints.save

    def stop(self, state, *rest):
        save(self, state, *rest)
        if int(state.step) == 15:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(checkpoints.Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            autoencoder.train_and_evaluate(SMALL, tmp_path)
    state = autoencoder.train_and_evaluate(SMALL, tmp_path)
    whole = autoencoder.train_and_evaluate(SMALL, folder)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(whole))
    assert rows_of(tmp_path) == rows_of(folder)


@pytest.mark.parametrize("batch_size", [64, 360])
def test_evaluation_is_exact_for_any_batch_size(folder, digits, batch_size):
    """Of averaged parameters, which are what a classifier takes."""
    codec = autoencoder.load(folder, (8, 8, 1))
    program, split = autoencoder.build(SMALL, digits), digits.splits["test"]
    state = autoencoder.train_and_evaluate(SMALL, folder)
    samples = parallel.place(steps.Samples(*split.resident, digits.mean, digits.std))
    measured = loop.evaluate(program, state.averaged(), samples, split, batch_size)
    images = jnp.asarray(split.inputs / np.float32(255))
    errors = np.asarray(codec.decode(codec.encode(images)), np.float64) - np.asarray(images, np.float64)
    assert measured["reconstruction"] == pytest.approx((errors**2).sum() / len(images), rel=1e-5)


def test_a_classifier_mixes_what_the_vae_makes_of_its_images(folder, tmp_path):
    """And is measured without it."""
    workdir = tmp_path / "classifier"
    flags = ["--config.model.width=4", "--config.num_epochs=1", f"--workdir={workdir}", f"--config.mix.vae={folder}"]
    assert main.main([*flags, "--config.mix.policy=varmixup"]) == 0
    assert "train_clean_loss" not in json.loads((workdir / "metrics.jsonl").read_text())
    shutil.copytree(workdir, tmp_path / "elsewhere")
    written = tmp_path / "elsewhere" / "config.json"
    written.write_text(written.read_text().replace(str(folder), "gone"))
    chosen, _, _ = predictor.load(tmp_path / "elsewhere")
    assert (chosen.mix.policy, chosen.mix.vae) == ("varmixup", "gone")


def test_the_vae_sees_images_and_the_classifier_normalised_ones(folder, digits):
    plain = autoencoder.load(folder, (8, 8, 1))
    around = autoencoder.for_classifier(str(folder), config.Data(), digits)
    images = jnp.asarray(digits.splits["test"].inputs[:8] / np.float32(255))
    inputs = (images - digits.mean) / digits.std
    np.testing.assert_allclose(around.encode(inputs), plain.encode(images), atol=1e-4)
    latents = plain.encode(images)
    np.testing.assert_allclose(around.decode(latents), (plain.decode(latents) - digits.mean) / digits.std, atol=1e-4)


def test_the_objective_is_of_images_and_of_two_draws():
    """Not of the classifier's inputs; and what the MMD is to is not the draw that made the latents."""
    seen = []

    def model(images, rng):
        seen.append(images)
        latents = jax.random.normal(rng, (8, 3))
        return vae_lib.Outputs(images, latents, jnp.zeros((8, 3)), jnp.zeros((8, 3)))

    images, mean, std = jax.random.uniform(jax.random.key(0), (8, 4, 4, 1)), jnp.full(1, 0.3), jnp.full(1, 0.2)
    loss = functools.partial(autoencoder.objective, config=config.Autoencoder(), mean=mean, std=std)
    _, terms = loss(model, (images - mean) / std, jnp.eye(8), jax.random.key(1), 0)
    np.testing.assert_allclose(seen[0], images, atol=1e-6)
    sample_rng, prior_rng = jax.random.split(jax.random.key(1))
    draws = [jax.random.normal(rng, (8, 3)) for rng in (sample_rng, prior_rng)]
    assert float(terms["mmd"]) == pytest.approx(float(vae_lib.squared_mmd(*draws)), abs=1e-6)


@pytest.mark.parametrize("method", ["erm", "mixup", "varmixup", "cutmix"])
def test_a_configured_vae_mixes_latents_or_its_reconstructions_are_mixed(method):
    codec = Codec(lambda x: jnp.tanh(x.reshape(len(x), -1)), lambda z: (2 * z).reshape(-1, 4, 4, 1))
    batch, labels, rng = jax.random.normal(jax.random.key(1), (8, 4, 4, 1)), jnp.eye(8), jax.random.key(2)
    policy = {"erm": "reconstructed(erm)", "varmixup": "varmixup(alpha=0.3, interpolation='slerp', real_fraction=0.5)"}
    mix = config.Mix(policy.get(method, f"reconstructed({method}(alpha=0.3))"), vae="named")
    inputs = mixing.of_inputs(mix, codec)
    back = jaxmix.latent.reconstruct(batch, **codec._asdict())
    expected = {
        "erm": lambda: (back, labels),
        "mixup": lambda: jaxmix.mixup(back, labels, rng, alpha=0.3),
        "cutmix": lambda: jaxmix.cutmix(back, labels, rng, alpha=0.3),
        "varmixup": lambda: jaxmix.varmixup(
            batch, labels, rng, alpha=0.3, interpolation="slerp", real_fraction=0.5, **codec._asdict()
        ),
    }[method]()
    jax.tree.map(np.testing.assert_array_equal, inputs(batch, labels, rng), expected)


def test_k_mixup_in_latent_space_is_varmixup_with_transport():
    codec = Codec(lambda x: 3 * x, lambda z: z / 3)
    mix = config.Mix("varmixup(pairing=transport(k=4, solver='exact'), alpha=0.3)", vae="named")
    batch, labels, rng = jax.random.normal(jax.random.key(1), (8, 4, 4, 1)), jnp.eye(8), jax.random.key(2)
    found = mixing.of_inputs(mix, codec)(batch, labels, rng)
    matching = functools.partial(jaxmix.kmixup, k=4, solver="exact", alpha=0.3)
    expected = jaxmix.in_latent_space(matching, **codec._asdict())(batch, labels, rng)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("mix.vae=", "mix.vae='' is not a run folder of train.vae: train one by python -m train.vae"),
        ("mix.vae=nowhere", "mix.vae='nowhere' is not a run folder of train.vae: train one by python -m train.vae"),
        ("mix.vae={folder}/judge", "not from this version of the program"),
        (
            "mix.vae={folder} data.name=iris model.name=mlp data.batch_size=32",
            "was trained on digits, image_size=0, channels=3, but this run trains on iris",
        ),
        (
            "mix.vae={folder} data.image_size=64",
            "was trained on digits, image_size=0, channels=3, but this run trains on digits, image_size=64",
        ),
        ("mix.vae={folder} mix.policy=varmixup(interpolation='cubic')", "cannot be 'cubic': take one of linear, slerp"),
        ("mix.vae={folder} mix.policy=varmixup(real_fraction=2)", "real_fraction must lie in"),
        ("mix.vae={folder} mix.policy=mixup", "has no effect on mix.policy=mixup: .* by reconstructed.mixup."),
        ("mix.vae={folder} mix.space=logits", "mixes inputs, which the VAE decodes: do not set mix.space=logits"),
        ("mix.vae={folder} mix.policy=dense_multimix", "has no effect on mix.policy=dense_multimix"),
    ],
)
def test_a_vae_that_does_not_fit_ends_with_code_2_and_one_line(flags, message, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a user's run
    words = ["mix.policy=varmixup", *flags.format(folder=folder).split()]
    assert main.main([f"--workdir={tmp_path / 'run'}", *(f"--config.{word}" for word in words)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("data.name=iris data.batch_size=32", r"takes images with sides of at least 8, not samples of shape \(4,\)"),
        ("vae.kernel=box", "config.vae: unknown kernel 'box': take one of gaussian, inverse_multiquadric"),
        ("vae.mmd_weight=-1", "config.vae: mmd_weight must be at least 0 and finite, got -1.0"),
        ("vae.widths=()", "latent_size=16, widths="),
        ("vae.latent_size=0", "latent_size=0"),
        ("data.batch_size=4", "take at least two samples for each device"),
        ("judge_epochs=-1", "judge_epochs must be at least 0"),
        ("mix.policy=erm", "unknown flag --config.mix.policy"),
        ("num_epochs=0", "num_epochs must be at least 1"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert vae.main([f"--workdir={tmp_path / 'run'}", *(f"--config.{word}" for word in flags.split())]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_the_judge_may_be_left_out(folder, tmp_path, capsys):
    """Then nothing is warned of either."""
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("judge"))
    flags = [*FLAGS[:-1], "--config.judge_epochs=0", "--config.checkpoint_steps=5"]
    assert vae.main([*flags, f"--workdir={tmp_path / 'run'}"]) == 0
    assert "WARNING" not in capsys.readouterr().out
    assert not (tmp_path / "run" / "judge").exists()
