"""Whole runs of the training program, its steps and its objectives."""

import dataclasses
import functools
import gzip
import json
import re
import struct

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import optax
from PIL import Image
import pytest
from tensorboardX.proto import event_pb2

import jaxmix
from tests.train.conftest import run, setup, small_config
from train import config, data
from train.data import splits
from train.errors import DivergedError
from train.learning import mixing, objectives, optimizers, steps
from train.running import checkpoints, figures, loop, parallel
from train.tasks import classifier


def take(samples, indices):
    """Normalised inputs and labels."""
    inputs, labels = samples.take(splits.Batch(indices))
    return samples.normalise(inputs), labels


def order_of(samples, batch_size, epoch=0):
    return data.epoch_order(len(samples.labels), batch_size, seed=0, epoch=epoch)


# --- runs


@pytest.mark.slow
def test_the_default_run_learns_the_digits_and_leaves_its_folder(tmp_path, programs):
    """In a process of its own, with flags under which it computes for less long."""
    folder = tmp_path / "run"
    epochs, flags = 4, "--xla_backend_optimization_level=1"
    result = run(f"--workdir={folder}", f"--config.num_epochs={epochs}", cache=programs, flags=flags)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = rows[-1]
    assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
    assert last["test_accuracy"] >= 0.95
    assert 0 < last["test_nll"] < 0.3
    assert 0 < last["test_ece"] < 0.2
    # No network fits mixed labels better than the entropy of their ratios' law: a lower loss is a bug.
    assert last["train_loss"] > 0.2
    table = dict(re.split(r" {2,}", line) for line in result.stdout.splitlines()[-5:])
    assert table["test accuracy"] == f"{last['test_accuracy']:.2%}"
    assert float(table["test ECE"]) == pytest.approx(last["test_ece"], abs=1e-4)
    assert table["run folder"] == str(folder)
    expected = dataclasses.asdict(config.Config(num_epochs=epochs))
    assert json.loads((folder / "config.json").read_text()) == json.loads(json.dumps(expected))
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "inputs.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "checkpoints" / str(last["step"])).is_dir()
    assert "1 x cpu" in json.loads((folder / "environment.json").read_text())["devices"]
    assert "\r" not in result.stdout + result.stderr  # no progress bar off a terminal


@pytest.mark.slow
def test_a_run_is_a_function_of_its_configuration(tmp_path):
    chosen = dataclasses.replace(small_config(policy="mixup"), num_epochs=1)
    first = classifier.train_and_evaluate(chosen, tmp_path / "a")
    again = classifier.train_and_evaluate(chosen, tmp_path / "b")
    other = classifier.train_and_evaluate(dataclasses.replace(chosen, seed=1), tmp_path / "c")
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.params["head"]["kernel"], other.params["head"]["kernel"])


@pytest.mark.slow
def test_the_checkpoint_is_the_final_state_with_the_means_of_the_training_split(tmp_path, digits):
    state = classifier.train_and_evaluate(small_config(policy="erm"), tmp_path / "run")
    saved = checkpoints.Checkpoints(tmp_path / "run" / "checkpoints")
    restored = saved.restore(jax.tree.map(jnp.zeros_like, state))
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert int(restored.step) == 22
    assert saved.metrics() == []
    means = saved.means(data.Means(np.zeros((8, 8, 1), np.float32), np.zeros(10, np.float32)))
    split = digits.splits["train"]
    normalised = (split.inputs / 255 - digits.mean) / digits.std
    np.testing.assert_allclose(means.inputs, normalised.mean(0), atol=1e-5)
    np.testing.assert_allclose(means.labels, np.eye(10)[split.labels].mean(0), atol=1e-6)
    assert np.ptp(means.inputs) > 1


def events(folder):
    """(tag, step, value) of every TensorBoard event; a record is a length, a checksum, an event, a checksum."""
    (path,) = (folder / "events").iterdir()
    content, found, start = path.read_bytes(), [], 0
    while start < len(content):
        (length,) = struct.unpack("<Q", content[start : start + 8])
        event = event_pb2.Event.FromString(content[start + 12 : start + 12 + length])
        found += [(value.tag, event.step, value) for value in event.summary.value]
        start += length + 16
    return found


@pytest.mark.parametrize("averaged", [False, True])
def test_curves_have_a_line_of_averaged_parameters_where_a_run_has_some(averaged, tmp_path, monkeypatch):
    drawn = figures.figure(9, 3.6)
    monkeypatch.setattr(figures, "figure", lambda *_: drawn)
    measured = {"train_loss": 1.5, "test_nll": 0.5, "test_accuracy": 0.75}
    means = {"test_ema_nll": 0.25, "test_ema_accuracy": 0.875} if averaged else {}
    rows = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, **measured, **means}]
    figures.draw_curves(rows, classifier.DISPLAY.panels, "test", "title", tmp_path / "curves.png")
    lines = {line.get_label(): line.get_xydata().tolist() for axes in drawn.axes for line in axes.get_lines()}
    expected = {"training, mixed labels": [[1, 2.0], [2, 1.5]], "test, true labels": [[2, 0.5]], "test": [[2, 25.0]]}
    expected |= {"test, true labels, EMA": [[2, 0.25]], "test, EMA": [[2, 12.5]]} if averaged else {}
    assert {label: points for label, points in lines.items() if not label.startswith("_")} == expected


@pytest.mark.slow
def test_tensorboard_events_say_what_metrics_jsonl_says_and_a_profile_has_its_steps(tmp_path):
    chosen = small_config(policy="mixup", space="embeddings")
    classifier.train_and_evaluate(chosen, tmp_path, profile_steps=range(9, 12))
    (path,) = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))
    with gzip.open(path) as file:
        traced = json.load(file)["traceEvents"]
    assert {event["args"]["step_num"] for event in traced if event.get("name") == "train"} == {"9", "10", "11"}
    seen = {(tag, step): value for tag, step, value in events(tmp_path)}
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        epoch = range(row["step"] - 10, row["step"] + 1)
        for name in ("loss", "clean_loss", "clean_accuracy"):
            values = [seen[f"train/step_{name}", step].simple_value for step in epoch]
            assert np.mean(values) == pytest.approx(row[f"train_{name}"], rel=1e-5)
        for tag in ("train/loss", "train/clean_accuracy", "test/accuracy", "test/nll", "test/ece"):
            assert seen[tag, row["step"]].simple_value == pytest.approx(row[tag.replace("/", "_")], rel=1e-5)
        assert seen["learning_rate", row["step"]].simple_value == pytest.approx(row["learning_rate"], rel=1e-5)
    picture = seen["inputs", 0].image
    with Image.open(tmp_path / "inputs.png") as shown:
        assert (picture.width, picture.height) == shown.size


@pytest.mark.slow
@pytest.mark.parametrize(
    "mix",
    [
        {"policy": "sometimes(cutmix, probability=0.9)"},
        {"policy": "kmixup(k=4)", "space": "embeddings"},
        {"policy": "multimix(num_mixed=1000, alpha=(0.5, 2.0))", "space": "logits", "clean_weight": 0.5},
        {"policy": "cutmix", "label_smoothing": 0.1, "clean_weight": 0.5},
    ],
)
def test_losses_fall(mix, tmp_path):
    classifier.train_and_evaluate(small_config(**mix), tmp_path / "run")
    losses = [json.loads(line)["train_loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris", "one_ring"])
def test_tables_and_toy_sets_are_learnt(name, tmp_path):
    chosen = config.Config(
        data=config.Data(name=name, batch_size=32),
        model=config.Model(name="mlp", width=32),
        mix=config.Mix("mixup(alpha=0.2)"),
        optimizer=config.Optimizer(learning_rate=0.03),
        num_epochs=10,
        eval_epochs=4,
    )
    classifier.train_and_evaluate(chosen, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["test_accuracy"] > 0.9
    assert [row["epoch"] for row in rows] == list(range(1, 11))
    assert [row["epoch"] for row in rows if "test_accuracy" in row] == [4, 8, 10]


@pytest.mark.slow
def test_a_run_that_diverges_says_so_even_in_its_last_step(tmp_path):
    """One step per epoch: its loss is that before the update, and finite."""
    chosen = dataclasses.replace(small_config(policy="erm"), num_epochs=4)
    chosen.data.batch_size, chosen.optimizer = 1436, config.Optimizer(name="sgd", learning_rate=3e38)
    with pytest.raises(DivergedError, match="training diverged in epoch"):
        classifier.train_and_evaluate(chosen, tmp_path)


# --- devices


@pytest.mark.slow
def test_all_devices_hold_the_same_state_and_shard_map_gives_it_too(digits):
    objective = mixing.build(config.Mix("cutmix"), num_steps=1)
    sgd = optax.sgd(1e-2)  # Adam makes steps of rounding errors
    _, state, samples, step = setup(digits, objective, optimizer=sgd, ema=0.9)
    rng = jax.random.key(5)
    mapped = parallel.train_step(step)
    devices = jax.local_devices()
    assert len(devices) == 4
    spec = PartitionSpec

    def step_of_one(state, samples, batch, rng):
        return step(state, samples, jax.tree.map(lambda leaf: leaf[0], batch), rng)

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
    for indices in order_of(samples, 64)[:3]:
        batch = parallel.split(splits.Batch(indices))
        expected, expected_metrics = reference(expected, samples, batch, rng)
        before = jax.tree.leaves(ours.params)[0]
        ours, metrics = mapped(ours, placed, batch, key)
        assert before.is_deleted()  # donated
    assert int(ours.ema.steps) == 3
    for leaf in jax.tree.leaves(ours):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == 4
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), ours, expected)
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-5)


@pytest.mark.slow
def test_devices_average_what_one_device_would_compute_on_the_whole_batch(digits):
    """In parts, and then clip it; without batch statistics or mixing in the way gradients are linear in the samples."""

    def linear(model, batch, labels, rng, step):
        loss = optax.softmax_cross_entropy(model.classify(batch.reshape(len(batch), -1)[:, :16]), labels).mean()
        return loss, {"loss": loss}

    chosen = config.Optimizer(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1e-2)
    optimizer = optimizers.build(chosen, optax.constant_schedule(1.0))
    _, state, samples, step = setup(digits, linear, optimizer=optimizer, accumulate=2)
    batch = splits.Batch(np.arange(64, dtype=np.int32).reshape(4, 16))
    after, metrics = parallel.train_step(step)(parallel.place(state), samples, batch, jax.random.key(0))
    images, labels = take(samples, batch.indices.ravel())
    inputs, targets = np.asarray(images).reshape(64, -1)[:, :16], np.eye(10)[np.asarray(labels)]

    def loss(head):
        return optax.softmax_cross_entropy(inputs @ head["kernel"] + head["bias"][None], jnp.float32(targets)).mean()

    _, fresh, _, _ = setup(digits, linear)
    value, gradient = jax.value_and_grad(loss)(fresh.params["head"])
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    moved = after.params["head"]["kernel"] - fresh.params["head"]["kernel"]
    assert optax.tree.norm(gradient) > 1e-2
    clipped = -1e-2 * gradient["kernel"] / optax.tree.norm(gradient)
    np.testing.assert_allclose(moved, clipped, rtol=1e-2, atol=1e-6)


def test_devices_and_steps_mix_differently(digits):
    """The objective sees another key on every device and at every step."""

    def key_as_loss(model, batch, labels, rng, step):
        loss = jax.random.uniform(rng) + 0 * model.classify(jnp.zeros((1, 16))).sum()
        return loss, {"loss": jax.lax.all_gather(loss, parallel.AXIS)}

    _, state, samples, step = setup(digits, key_as_loss)
    mapped, seen = parallel.train_step(step), []
    state = parallel.place(state)
    for _ in range(2):
        state, metrics = mapped(state, samples, splits.Batch(np.zeros((4, 8), np.int32)), jax.random.key(0))
        seen.extend(np.asarray(metrics["loss"]).tolist())
    assert len(set(seen)) == 8


# --- evaluation


@pytest.mark.parametrize("batch_size", [pytest.param(4, marks=pytest.mark.slow), 64, 400])
def test_evaluation_is_exact_for_any_batch_size(batch_size, digits):
    model, state, samples, _ = setup(digits, None)
    program, split = classifier.build(small_config(), digits), digits.splits["test"]
    samples = samples._replace(inputs=split.inputs, labels=split.labels)
    measured = loop.evaluate(program, state, samples, split, batch_size)
    images, labels = take(samples, np.arange(360))
    logits = np.asarray(model.apply({"params": state.params, "batch_stats": state.batch_stats}, images), np.float64)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert measured["accuracy"] == pytest.approx(np.mean(logits.argmax(1) == labels), abs=1e-12)
    assert measured["nll"] == pytest.approx(-np.mean(logp[np.arange(360), labels]), rel=1e-5)


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

    slots = objectives.Slots(shift(1.0), shift(10.0), shift(100.0))
    loss, metrics = objectives.cross_entropy(Recorder(), batch, labels, rng, slots=slots)
    logits = 2 * (batch + 1 + 10) + 100
    expected = optax.softmax_cross_entropy(logits, labels * 1000).mean()
    assert loss == pytest.approx(float(expected))
    assert metrics == {"loss": loss}


def test_clean_samples_are_measured_unless_inputs_are_mixed_and_weigh_what_they_should():
    batch, labels = jnp.asarray([[3.0, 0, 0], [0, 2, 0], [1, 0, 0.5]]), jnp.eye(3)
    mixed = objectives.Slots(logits=lambda logits, labels, rng: (-logits, labels))
    loss, metrics = objectives.cross_entropy(
        Recorder(), batch, labels, jax.random.key(0), slots=mixed, clean_weight=0.5
    )
    clean, turned = (float(optax.softmax_cross_entropy(2 * sign * batch, labels).mean()) for sign in (1, -1))
    assert float(loss) == pytest.approx(turned + 0.5 * clean)
    assert metrics["clean_loss"] == pytest.approx(clean)
    assert metrics["clean_accuracy"] == pytest.approx(2 / 3)


class Centred(Recorder):
    """A model with a batch statistic."""

    def features(self, batch, *, train):
        return super().features(batch - batch.mean(0), train=train)


@pytest.mark.parametrize("model", [Recorder(), Centred()], ids=["no statistics", "a batch statistic"])
def test_clean_inputs_weigh_beside_mixed_ones_in_one_pass(model):
    """The loss is of two losses apart, but for statistics, which are of both halves."""
    batch, labels, rng = jax.random.normal(jax.random.key(1), (8, 5)), jnp.eye(8)[:, :5], jax.random.key(2)
    objective = mixing.build(config.Mix("mixup(alpha=0.7)", clean_weight=0.3), num_steps=1)
    loss, metrics = objective(model, batch, labels, rng, 0)
    mixed, targets = jaxmix.mixup(batch, labels, jax.random.split(rng, 3)[0], alpha=0.7)
    shift = (batch.mean(0) + mixed.mean(0)) / 2 if isinstance(model, Centred) else 0
    logits = 2 * (batch - shift)
    clean = float(optax.softmax_cross_entropy(logits, labels).mean())
    assert float(loss) == pytest.approx(
        float(optax.softmax_cross_entropy(2 * (mixed - shift), targets).mean()) + 0.3 * clean, rel=1e-5
    )
    assert metrics["loss"] is loss
    assert float(metrics["clean_loss"]) == pytest.approx(clean, rel=1e-5)
    assert float(metrics["clean_accuracy"]) == pytest.approx(np.mean(logits.argmax(1) == labels.argmax(1)))


@pytest.mark.parametrize("space", ["embeddings", "logits"])
@pytest.mark.parametrize(
    "method", ["mixup(alpha=0.7)", "kmixup(k=4, solver='exact', alpha=0.7)", "multimix(num_mixed=50)"]
)
def test_a_method_mixes_in_the_space_that_is_configured(method, space):
    """k-mixup matches what it mixes. Logits are twice the embeddings here, so that either gives one loss."""
    chosen = config.Mix(method, space)
    batch, labels, rng = jax.random.normal(jax.random.key(1), (16, 5)), jnp.eye(16)[:, :5], jax.random.key(2)
    loss, metrics = mixing.build(chosen, num_steps=1)(Recorder(), batch, labels, rng, 0)
    key = jax.random.split(rng, 3)[objectives.Slots._fields.index(space)]
    mixed, targets = jaxmix.policy(method)(batch, labels, key)
    assert float(loss) == pytest.approx(float(optax.softmax_cross_entropy(2 * mixed, targets).mean()), rel=1e-5)
    assert set(metrics) == {"loss", "clean_loss", "clean_accuracy"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "per_position"),
    [({"name": "cnn"}, True), ({"name": "vit", "width": 128, "depth": 2, "patch_size": 4}, False)],
)
def test_dense_multimix_is_the_library_s_loss_around_the_model_s_attention(model, per_position, digits):
    """Of a ViT, that of its class token; a constant of the gradient either way."""
    policy = f"dense_multimix(alpha=0.7, num_mixed=20, per_position={per_position})"
    mix = config.Mix(policy, clean_weight=0.3)
    objective = mixing.build(mix, num_steps=1)
    model, state, samples, _ = setup(digits, objective, **model)
    images, labels = take(samples, np.arange(8))
    labels, rng = jax.nn.one_hot(labels, 10), jax.random.key(3)
    mutable = ("batch_stats", "intermediates")

    def variables(params):
        return {"params": params, "batch_stats": state.batch_stats}

    def configured(params):
        (loss, metrics), _ = nn.apply(objective, model, mutable=mutable)(variables(params), images, labels, rng, 0)
        return loss, metrics

    def apply(params, *arguments, method, **options):
        return model.apply(variables(params), *arguments, method=method, mutable=mutable, **options)

    maps, left = apply(state.params, images, method="features", train=True)
    if "intermediates" in left:
        (sown,) = jax.tree.leaves(left["intermediates"])
        weights = sown[:, :, 0].mean(axis=1)
    else:
        weights = jaxmix.attention.gap_attention(maps)

    def expected(params):
        maps, _ = apply(params, images, method="features", train=True)
        logits, _ = apply(params, maps, method="classify")
        pooled = maps[:, 0] if "intermediates" in left else maps.mean(axis=1)
        clean = optax.softmax_cross_entropy(apply(params, pooled, method="classify")[0], labels).mean()
        dense = jaxmix.embedding.dense_multimix_loss(
            logits, labels, rng, attention=weights, num_mixed=20, alpha=0.7, per_position=per_position
        )
        return dense + 0.3 * clean

    (loss, metrics), gradient = jax.jit(jax.value_and_grad(configured, has_aux=True))(state.params)
    wanted = jax.jit(jax.value_and_grad(expected))(state.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), (loss, gradient), wanted)
    assert set(metrics) == {"loss", "clean_loss", "clean_accuracy"}


@pytest.mark.parametrize("attended", [1.0, 0.3])
def test_transmix_labels_cutmix_by_the_attention_to_patches(attended, digits):
    """Patch by patch, of the attention that the model leaves; a constant of the gradient."""
    objective = mixing.build(config.Mix(f"transmix(alpha=0.7, attended={attended})"), num_steps=1)
    model, state, samples, _ = setup(digits, objective, name="vit", width=64, depth=1, patch_size=2)
    params = jax.tree.map(lambda leaf: 3 * leaf, state.params)  # so that attention is far from even
    images, labels = take(samples, np.arange(8))
    labels, rng = jax.nn.one_hot(labels, 10), jax.random.key(3)
    parts = {"ratio": functools.partial(jaxmix.ratios.beta, alpha=0.7), "mask": jaxmix.masks.box}
    shown_rng = jax.random.split(rng, 3)[0]  # as first_inputs shows them
    mix = jaxmix.draw(images, shown_rng, pairing=jaxmix.pairings.permutation, **parts)
    mixed = jaxmix.apply(mix, images)[0]

    def cut(params):
        return model.apply({"params": params}, mixed, mutable="intermediates")

    (sown,) = jax.tree.leaves(jax.jit(cut)(params)[1])
    weight, area = np.asarray(mix.weight, np.float64), np.asarray(mix.ratio)
    shares = []
    for seen, mask in zip(np.asarray(sown, np.float64).mean(1)[:, 0, 1:], weight, strict=True):
        own = sum(seen[4 * i + j] * mask[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for i, j in np.ndindex(4, 4))
        shares.append(own / seen.sum())
    assert np.abs(shares - area).max() > 0.02
    share = (attended * np.array(shares) + (1 - attended) * area)[:, None]
    targets = share * labels + (1 - share) * labels[mix.partner]

    def configured(params):
        return nn.apply(objective, model, mutable="intermediates")({"params": params}, images, labels, rng, 0)[0]

    (loss, metrics), gradient = jax.jit(jax.value_and_grad(configured, has_aux=True))(params)
    wanted = jax.jit(jax.value_and_grad(lambda p: optax.softmax_cross_entropy(cut(p)[0], targets).mean()))(params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), (loss, gradient), wanted)
    assert metrics == {"loss": loss}


def test_transmix_is_shown_the_samples_that_it_trains_on(digits):
    seen = []

    class Seen(nn.Module):
        def features(self, batch, *, train):
            seen.append(batch)
            raise InterruptedError

    _, _, samples, step = setup(digits, None, name="mlp")
    indices, rng, augment = splits.Batch(np.arange(8)), jax.random.key(3), step.keywords["augment"]
    shown = mixing.of_inputs(config.Mix("transmix(alpha=0.7)"))
    images, _ = steps.first_inputs(samples, indices, rng, augment=augment, mix=shown, num_classes=10)
    mix_rng, augment_rng = steps.step_keys(rng, 0, 0)
    inputs, labels = steps.inputs_of(samples, indices, augment_rng, augment=augment, num_classes=10)
    with pytest.raises(InterruptedError):
        objectives.transmix(Seen(), inputs, labels, mix_rng, alpha=jnp.float32(0.7))
    np.testing.assert_allclose(seen[0] * samples.std + samples.mean, images, atol=1e-6)


def test_transmix_of_sequences_is_refused():
    with pytest.raises(ValueError, match=r"patches of images \[n, h, w, channels\], but samples have space \(16,\)"):
        objectives._means_of_patches(jnp.ones((2, 16)), 4)


def test_slots_draw_from_different_keys():
    keys = []

    def record(batch, labels, rng):
        keys.append(tuple(np.asarray(jax.random.key_data(rng)).tolist()))
        return batch, labels

    mix = objectives.Slots(record, record, record)
    objectives.cross_entropy(Recorder(), jnp.ones((2, 3)), jnp.eye(2, 3), jax.random.key(0), slots=mix)
    assert len(set(keys)) == 3


@pytest.mark.slow
def test_expansions_are_the_library_s_losses_at_the_alpha_of_their_step(digits):
    """Batch statistics are those of contracted inputs, as they are at test time."""
    objective = mixing.build(config.Mix("approximate_mixup(alpha=linear(2.0, 0.5))"), num_steps=10)
    model, state, samples, _ = setup(digits, objective)
    images, labels = take(samples, np.arange(16))
    labels, rng = jax.nn.one_hot(labels, 10), jax.random.key(3)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    (loss, metrics), updates = nn.apply(objective, model, mutable="batch_stats")(variables, images, labels, rng, 5)

    def predict(inputs):
        return model.apply(variables, inputs, train=True, mutable="batch_stats")[0]

    expected, terms = jaxmix.regularization.approximate_mixup_loss(
        images, labels, rng, predict=predict, alpha=1.25, curvature=False
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(metrics["jacobian"]) == pytest.approx(float(terms.jacobian), rel=1e-5)
    linear = mixing.build(config.Mix("linearized_mixup(alpha=1.25)"), num_steps=10)
    (loss, _), updates_of_linear = nn.apply(linear, model, mutable="batch_stats")(variables, images, labels, rng, 5)
    outputs, targets = jaxmix.regularization.linearized_mixup(images, labels, rng, predict=predict, alpha=1.25)
    assert float(loss) == pytest.approx(float(optax.softmax_cross_entropy(outputs, targets).mean()), rel=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), updates_of_linear, updates)
    seen = jaxmix.regularization.contract(images, images.mean(0), alpha=1.25)
    _, wanted = model.apply(variables, seen, train=True, mutable="batch_stats")
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), updates, wanted)


def test_a_step_mixes_with_the_alpha_of_its_schedule():
    """Ratios of a small alpha lie near 0 or 1: the entropy of mixed labels falls."""

    class Logits(Recorder):
        def classify(self, embedding):
            return jnp.zeros_like(embedding)

    seen = []
    objective = mixing.build(config.Mix("mixup(alpha=linear(8.0, 0.01))"), num_steps=10)

    def keep(self, batch, *, train):
        seen.append(batch)
        return batch[:, None]

    Logits.features = keep
    for step in (0, 10):
        objective(Logits(), jnp.eye(64), jnp.eye(64), jax.random.key(0), step)
    own = [np.asarray(batch.max(axis=1)) for batch in seen]
    assert own[0].mean() < 0.65
    assert own[1].mean() > 0.98


@pytest.mark.slow
def test_the_last_epochs_mix_nothing_where_asked(tmp_path):
    """Clean epochs fit what mixed ones cannot: labels without the entropy of a ratio."""
    both = dataclasses.replace(small_config(policy="mixup", clean_epochs=2), num_epochs=3)
    none = dataclasses.replace(small_config(policy="mixup"), num_epochs=3)
    rows = {}
    for name, chosen in (("both", both), ("none", none)):
        classifier.train_and_evaluate(chosen, tmp_path / name)
        rows[name] = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert rows["both"][0]["train_loss"] == rows["none"][0]["train_loss"]
    assert rows["both"][2]["train_loss"] < rows["none"][2]["train_loss"] - 0.1


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_shown_is_what_the_network_sees(accumulate, digits):
    """The first inputs are those of the first step on device 0, seen through the network's own input."""
    seen = []

    class Seer(Recorder):
        def features(self, batch, *, train):
            jax.debug.callback(
                lambda device, x: seen.append((int(device), x)), jax.lax.axis_index(parallel.AXIS), batch
            )
            return batch.reshape(len(batch), -1)[:, None, :10]

    mix = config.Mix("mixup")  # no matching, of which two programs might break a tie differently
    objective = mixing.build(mix, num_steps=1)
    shown = {"augment": "pad_crop,flip", "accumulate": accumulate}
    _, state, samples, step = setup(digits, lambda model, *rest: objective(Seer(), *rest), **shown)
    batch = parallel.split(splits.Batch(order_of(samples, 64)[0]))
    jax.block_until_ready(parallel.train_step(step)(parallel.place(state), samples, batch, jax.random.key(3)))
    jax.effects_barrier()
    images, labels = steps.first_inputs(
        samples,
        jax.tree.map(lambda leaf: leaf[0], batch),
        jax.random.key(3),
        augment=step.keywords["augment"],
        mix=mixing.of_inputs(mix),
        num_classes=10,
        accumulate=accumulate,
    )
    parts = [x for device, x in seen if device == 0]
    assert len(parts) == accumulate
    assert min(np.abs(samples.normalise(images) - x).max() for x in parts) < 1e-4
    first = np.asarray(samples.labels)[batch.indices[0, : 16 // accumulate]]
    assert set(np.flatnonzero(labels.sum(0))) <= set(first.tolist())


@pytest.mark.slow
def test_data_and_augmentation_do_not_depend_on_the_number_of_devices(digits):
    def inputs_as_loss(model, batch, labels, rng, step):
        whole = jax.lax.all_gather(batch, parallel.AXIS).reshape(-1, *batch.shape[1:])
        return 0 * model.classify(jnp.zeros((1, 16))).sum(), {"inputs": whole}

    seen = []
    for devices in (1, 4):
        _, state, samples, step = setup(digits, inputs_as_loss, augment="pad_crop,flip,random_resized_crop")
        batch = splits.Batch(order_of(samples, 32)[0].reshape(devices, -1))
        mapped = jax.vmap(step, (None, None, 0, None), axis_name=parallel.AXIS, out_axes=None)
        seen.append(jax.jit(mapped)(state, samples, batch, jax.random.key(0))[1]["inputs"])
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)
    plain, _ = take(samples, order_of(samples, 32)[0])
    assert np.abs(plain - seen[0]).max() > 0.5
