"""The training program: its pieces, and whole runs."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import jaxtyping
import numpy as np
import optax
import pytest

import jaxmix
from train import checkpoints, config, data, loop, main, models, objectives, parallel, steps

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _promotion_as_optax_and_flax_need_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def digits():
    return data.load(config.Data())


def small_config(**mix):
    return config.Config(model=config.Model(width=4), mix=config.Mix(**mix), num_epochs=2)


def setup(digits, objective, rng=0):
    """A step's parts on the digits: a small model, its state, the training split."""
    model = models.build(config.Model(width=4), digits.num_classes)
    optimizer = optax.adam(1e-2)
    state = steps.init(model, optimizer, jnp.zeros((1, 8, 8, 1)), jax.random.key(rng))
    samples = steps.Samples(*digits.train, *data.statistics(digits.train))
    step = functools.partial(
        steps.train_step, model=model, objective=objective, optimizer=optimizer, num_classes=10, axis_name=parallel.AXIS
    )
    return model, state, samples, step


# --- runs


def run(*arguments, devices=1, timeout=300):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-m", "train.main", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_the_default_run_learns_the_digits_and_leaves_its_folder(devices, tmp_path):
    folder = tmp_path / "run"
    result = run(f"--workdir={folder}", devices=devices)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = rows[-1]
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert last["test_accuracy"] >= 0.97
    assert 0 < last["test_nll"] < 0.3
    assert 0 < last["test_ece"] < 0.2
    # No network fits mixed labels better than the entropy of their ratios' law: a lower loss is a bug.
    assert last["train_loss"] > 0.2
    table = dict(re.split(r" {2,}", line) for line in result.stdout.splitlines()[-5:])
    assert table["test accuracy"] == f"{last['test_accuracy']:.2%}"
    assert float(table["test ECE"]) == pytest.approx(last["test_ece"], abs=1e-4)
    assert table["run folder"] == str(folder)
    assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(config.Config())
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "checkpoints" / str(last["step"])).is_dir()
    assert "\r" not in result.stdout + result.stderr  # no progress bar off a terminal


def test_a_run_is_a_function_of_its_configuration(tmp_path):
    first = loop.train_and_evaluate(small_config(), tmp_path / "a")
    again = loop.train_and_evaluate(small_config(), tmp_path / "b")
    other = loop.train_and_evaluate(dataclasses.replace(small_config(), seed=1), tmp_path / "c")
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.params["head"]["kernel"], other.params["head"]["kernel"])


def test_the_checkpoint_is_the_final_state(tmp_path):
    state = loop.train_and_evaluate(small_config(method="erm"), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "22"
    restored = checkpoints.restore(path, jax.tree.map(jnp.zeros_like, state))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert int(restored.step) == 22


@pytest.mark.parametrize("method", ["erm", "mixup", "cutmix", "kmixup"])
def test_every_method_trains(method, tmp_path):
    loop.train_and_evaluate(small_config(method=method, k=4, probability=0.9), tmp_path / "run")
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--confg=x"], "unknown flag --confg: did you mean --config?"),
        (["--config.mix.alhpa=1"], "unknown flag --config.mix.alhpa: did you mean --config.mix.alpha?"),
        (["--config=train/configs/digts.py"], "unknown config .*did you mean train/configs/digits.py?"),
        (["--config=LICENSE"], "config LICENSE is not a Python file"),
        (["--config=train/main.py"], r"needs a function get_config\(\)"),
        (["--config.seed=1.5"], "--config.seed=1.5: invalid"),
        (["digits"], "cannot read 'digits': write flags as --name=value"),
        (["--config.data.name=digit"], "unknown data set digit: did you mean digits?"),
        (["--config.data.batch_size=2000"], "batch_size=2000 does not fit 4 devices and 1437 .* from 4 to 1436"),
        (["--config.data.batch_size=30"], "batch_size=30 does not fit 4 devices"),
        (["--config.data.name=cifar10"], "unknown data set cifar10: take one of digits"),
        (["--config.model.name=cn"], "unknown model cn: did you mean cnn?"),
        (["--config.model.width=0"], "width must be at least 1, got 0"),
        (["--config.mix.method=cutmx"], "unknown method cutmx: did you mean cutmix?"),
        (["--config.mix.alpha=0"], "alpha must be positive and finite, got 0.0"),
        (["--config.mix.k=32"], "k=32 and a batch of 32.*each of 4 devices mixes 32 of 128 samples"),
        (["--config.mix.solver=greedy"], "unknown solver 'greedy': take one of sinkhorn, exact"),
        (["--config.mix.probability=2"], r"probability must lie in \[0, 1\], got 2.0"),
        (["--config.optimizer.learning_rate=-1"], "learning_rate must be > 0"),
        (["--config.optimizer.learning_rate=inf"], "both finite"),
        (["--config.seed=-1"], "seed must be from 0 to 4294967295, got -1"),
        (["--config.seed=4294967296"], "seed must be from 0 to 4294967295"),
        (["--config.num_epochs=0"], "num_epochs must be at least 1, got 0"),
        (["--workdir=LICENSE"], "cannot write the run folder LICENSE"),
        (["--workdir=tests"], "run folder tests holds a run already"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a user's run
    assert main.main(arguments) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("from train.config import *\ndef get_config(): return Config(mix=Mix(alhpa=1))", "TypeError: .*alhpa"),
    ],
)
def test_mistakes_in_a_config_file_end_alike(text, message, capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main.main([f"--config={path}"]) == 2
    captured = capsys.readouterr()
    assert re.search(f"config {path}: {message}", captured.err)
    assert captured.err.count("\n") == 1


def test_a_run_that_diverges_says_so(tmp_path, capsys):
    arguments = ["--config.optimizer.learning_rate=1e38", "--config.num_epochs=2", "--config.model.width=2"]
    assert main.main([*arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "training diverged in epoch 1" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_help_names_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for flag in ("--config.mix.alpha=1.0", "--config.data.batch_size=128", "--config.num_epochs=40", "--workdir"):
        assert flag in printed


def test_flags_override_the_config_file():
    parsed, workdir = config.parse(["--config.mix.alpha=0.4", "--config.mix.shared=true", "--workdir=x"], "")
    assert parsed == config.Config(mix=config.Mix(alpha=0.4, shared=True))
    assert workdir == pathlib.Path("x")


def test_every_config_says_how_it_is_run_and_what_came_out():
    for path in config.CONFIGS.glob("*.py"):
        text = path.read_text()
        assert re.search(r"Command: python -m train\.main", text), path
        assert re.search(r"Hardware: \S", text), path
        assert re.search(r"Result: (not yet run|.*\d)", text), path


# --- devices


@pytest.mark.parametrize("method", ["mixup", "kmixup"])
def test_all_devices_hold_the_same_state_and_shard_map_gives_it_too(method, digits):
    objective = objectives.build(config.Mix(method=method, k=4))
    _, state, samples, step = setup(digits, objective)
    rng = jax.random.key(5)
    mapped = parallel.train_step(step)
    devices = jax.local_devices()
    assert len(devices) == 4
    spec = PartitionSpec

    def step_of_one(state, samples, indices, rng):
        return step(state, samples, indices[0], rng)

    reference = jax.jit(
        jax.shard_map(
            step_of_one,
            mesh=Mesh(np.array(devices), (parallel.AXIS,)),
            in_specs=(spec(), spec(), spec(parallel.AXIS), spec()),
            out_specs=spec(),
            check_vma=False,
        )
    )
    expected, ours = state, parallel.place(state)
    placed, key = parallel.place((samples, rng))
    for indices in data.epoch_order(len(samples.labels), 64, seed=0, epoch=0)[:3]:
        expected, expected_metrics = reference(expected, samples, parallel.split(indices), rng)
        before = jax.tree.leaves(ours.params)[0]
        ours, metrics = mapped(ours, placed, parallel.split(indices), key)
        assert before.is_deleted()  # donated
    for leaf in jax.tree.leaves(ours):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 4
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, expected)
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-5)


def test_devices_average_what_one_device_would_compute_on_the_whole_batch(digits):
    """Without batch statistics or mixing in the way: gradients are linear in the samples."""

    def linear(model, batch, labels, rng):
        loss = optax.softmax_cross_entropy(model.classify(batch.reshape(len(batch), -1)[:, :16]), labels).mean()
        return loss, {"loss": loss}

    _, state, samples, step = setup(digits, linear)
    indices = np.arange(64, dtype=np.int32).reshape(4, 16)
    after, metrics = parallel.train_step(step)(parallel.place(state), samples, indices, jax.random.key(0))
    images, labels = samples.take(indices.ravel())
    inputs, targets = np.asarray(images).reshape(64, -1)[:, :16], np.eye(10)[np.asarray(labels)]

    def loss(head):
        return optax.softmax_cross_entropy(inputs @ head["kernel"] + head["bias"][None], jnp.float32(targets)).mean()

    _, fresh, _, _ = setup(digits, linear)
    value, gradient = jax.value_and_grad(loss)(fresh.params["head"])
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    moved = after.params["head"]["kernel"] - fresh.params["head"]["kernel"]
    np.testing.assert_allclose(moved, -1e-2 * np.sign(gradient["kernel"]), atol=1e-4)  # Adam's first step


def test_devices_and_steps_mix_differently(digits):
    """The objective sees another key on every device and at every step."""

    def key_as_loss(model, batch, labels, rng):
        loss = jax.random.uniform(rng) + 0 * model.classify(jnp.zeros((1, 16))).sum()
        return loss, {"loss": jax.lax.all_gather(loss, parallel.AXIS)}

    _, state, samples, step = setup(digits, key_as_loss)
    mapped, seen = parallel.train_step(step), []
    state = parallel.place(state)
    for _ in range(2):
        state, metrics = mapped(state, samples, np.zeros((4, 8), np.int32), jax.random.key(0))
        seen.extend(np.asarray(metrics["loss"]).tolist())
    assert len(set(seen)) == 8


def test_the_order_of_the_data_is_a_permutation_for_any_device_count():
    orders = [data.epoch_order(103, 10, seed=3, epoch=epoch) for epoch in (0, 1)]
    for order in orders:
        assert order.shape == (10, 10)
        assert len(set(order.ravel())) == 100
    assert not np.array_equal(*orders)
    np.testing.assert_array_equal(orders[0], data.epoch_order(103, 10, seed=3, epoch=0))


# --- evaluation


@pytest.mark.parametrize("batch_size", [4, 64, 360, 400])
def test_evaluation_is_exact_for_any_batch_size(batch_size, digits):
    model, state, _, _ = setup(digits, None)
    split = steps.Samples(*digits.test, *data.statistics(digits.train))
    eval_step = parallel.eval_step(functools.partial(steps.eval_step, model=model, axis_name=parallel.AXIS))
    measured = loop.evaluate(eval_step, state, split, batch_size)
    images, labels = split.take(np.arange(360))
    logits = np.asarray(model.apply({"params": state.params, "batch_stats": state.batch_stats}, images), np.float64)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert measured["test_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == labels), abs=1e-12)
    assert measured["test_nll"] == pytest.approx(-np.mean(logp[np.arange(360), labels]), rel=1e-5)


# --- objectives


class Recorder:
    """A model of three maps without parameters."""

    def features(self, batch, *, train):
        assert train
        return batch[:, None, :]

    def pool(self, maps):
        return maps.mean(1)

    def classify(self, embedding):
        return 2 * embedding


def test_each_slot_mixes_in_its_space():
    batch, labels, rng = jnp.arange(12.0).reshape(4, 3), jnp.eye(4)[:, :3], jax.random.key(0)

    def shift(by):
        return lambda batch, labels, rng: (batch + by, labels * by)

    mix = objectives.Slots(shift(1.0), shift(10.0), shift(100.0))
    loss, metrics = objectives.cross_entropy(Recorder(), batch, labels, rng, mix=mix)
    logits = 2 * (batch + 1 + 10) + 100
    expected = optax.softmax_cross_entropy(logits, labels * 1000).mean()
    assert loss == pytest.approx(float(expected))
    assert metrics["loss"] == loss


def test_slots_draw_from_different_keys():
    keys = []

    def record(batch, labels, rng):
        keys.append(tuple(np.asarray(jax.random.key_data(rng)).tolist()))
        return batch, labels

    objectives.cross_entropy(
        Recorder(), jnp.ones((2, 3)), jnp.eye(2, 3), jax.random.key(0), mix=objectives.Slots(record, record, record)
    )
    assert len(set(keys)) == 3


def test_the_configured_method_is_the_library_s():
    batch, labels, rng = jax.random.normal(jax.random.key(1), (32, 8, 8, 1)), jnp.eye(32), jax.random.key(2)
    expected = {
        "erm": (batch, labels),
        "mixup": jaxmix.mixup(batch, labels, rng, alpha=0.3),
        "cutmix": jaxmix.cutmix(batch, labels, rng, alpha=0.3),
        "kmixup": jaxmix.kmixup(batch, labels, rng, alpha=0.3, k=4, solver="exact"),
    }
    for method, result in expected.items():
        fn = objectives.mix_fn(config.Mix(method=method, alpha=0.3, k=4, solver="exact"))
        jax.tree.map(np.testing.assert_array_equal, fn(batch, labels, rng), result)


def test_digits_are_checked_uint8_images(digits):
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() == 255
    assert len(digits.train.labels) + len(digits.test.labels) == 1797
    assert np.bincount(digits.test.labels).min() >= 33
    images, _ = steps.Samples(*digits.train, *data.statistics(digits.train)).take(np.arange(1437))
    assert float(images.mean()) == pytest.approx(0, abs=1e-4)
    assert float(images.std()) == pytest.approx(1, abs=1e-3)
