"""A user's own model, mixing between the stages of any, and trained runs as functions."""

import collections
import contextlib
import functools
import json
import pathlib
import re
import sys

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmix
from tests.train.conftest import ROOT, once, setup, small_config
from tests.train.models_test import build
from train import config, data, main, runs
from train.data import splits
from train.errors import UsageError
from train.learning import checks, mixing, objectives
from train.measuring import evaluation
from train.models import stages
from train.running import parallel


def written(folder, monkeypatch, text, name):
    """A module in the current folder, which is forgotten after the test."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, name, None)  # to be put back as it was
    del sys.modules[name]


def check(digits, name, mix=None, width=4):
    chosen = small_config(**(mix or {"policy": "mixup"}))
    chosen.model = config.Model(name=name, width=width)
    checks.check(chosen, digits, devices=4)


# --- what is refused, before anything is compiled

HEADER = """
from flax import linen as nn
import jax.numpy as jnp
import numpy as np

class Net(nn.Module):
    out: int = 10
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(self.out)(images.reshape(len(images), -1))

"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def make(config, shape, n): raise OSError('two\nlines')".replace("\n", "\\n"),
            r"OSError: two lines \(net_of_test.py, line 12\): fix it",
        ),
        ("def make(config): return Net()", "takes 1 positional argument but 3 were given"),
        ("def make(config, shape, n): return 3", "returns a int: it must return a module of flax"),
        ("def make(config, shape, n): return Net", "returns the class Net: it must return a module"),
        ("def made(config, shape, n): return Net()", "unknown function of net_of_test make: did you mean made"),
        ("import no_such_module_here", "there is no module no_such_module_here here or among"),
        (
            "def make(config, shape, n): return Net(7)",
            r"float32\[2, 7\] for 2 samples of shape \(8, 8, 1\) and 10 classes",
        ),
        ("make = lambda *_: Net(np.ones(3))", "unhashable"),
        (
            """
class Old(nn.Module):
    def __call__(self, images): return images
def make(*_): return Old()""",
            "has no argument train: write __call__",
        ),
        (
            """
class Broken(nn.Module):
    @nn.compact
    def __call__(self, images, train): return nn.Dense(10)(images @ jnp.ones((5, 3)))
def make(*_): return Broken()""",
            "TypeError: dot_general",
        ),
        (
            """
class Noisy(Net):
    @nn.compact
    def __call__(self, images, train): return nn.Dropout(0.5)(images, deterministic=False)
def make(*_): return Noisy()""",
            'PRNG for "dropout"',
        ),
        (
            """
class Counting(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        self.variable("counts", "n", lambda: 0)
        return nn.Dense(10)(images.reshape(len(images), -1))
def make(*_): return Counting()""",
            "has variables in counts: params are trained",
        ),
        (
            """
class Fixed(nn.Module):
    def __call__(self, images, train): return images.reshape(len(images), -1)[:, :10]
def make(*_): return Fixed()""",
            "has no parameters",
        ),
        (
            """
class Flat(Net):
    def features(self, images, train=False): return images.reshape(len(images), -1)
    def pool(self, maps): return maps
    def classify(self, embedding): return embedding
def make(*_): return Flat()""",
            r"features returns \(2, 64\) and pool \(2, 64\) of 2 samples: they must return maps",
        ),
    ],
)
def test_a_model_that_will_not_do_is_refused_in_one_line(body, message, digits, tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, HEADER + body, "net_of_test")
    with pytest.raises(UsageError, match=message) as raised:
        check(digits, "net_of_test:make")
    assert "net_of_test" in str(raised.value)
    assert "\n" not in str(raised.value)


STAGED = """
class Staged(nn.Module):
    stages = ("first", "second")
    calls: tuple = (1, 2)
    def setup(self):
        self.head = nn.Dense(10)
    def features(self, images, *, train=False, between=lambda i, x: x):
        for i in self.calls:
            images = between(i, images)
        return images.reshape(len(images), -1, 1)
    def pool(self, maps): return maps.mean(axis=1)
    def classify(self, embedding): return self.head(embedding)
    def __call__(self, images, train): return self.classify(self.pool(self.features(images)))
"""


@pytest.mark.parametrize(
    ("body", "mix", "message"),
    [
        (
            "def make(*_): return Net()",
            {"policy": "mixup", "space": "embeddings"},
            "has no features, pool, classify, which mix.space=embeddings needs",
        ),
        ("def make(*_): return Net()", {"policy": "dense_multimix"}, "which mix.policy=dense_multimix needs"),
        ("def make(*_): return Net()", {"policy": "transmix"}, "needs the attention of a class token"),
        ("def make(*_): return Net()", {"space": "layers"}, "has no features, pool, classify, stages, so it has"),
        (f"{STAGED}\ndef make(*_): return Staged((2, 1))", {"space": "layers"}, r"calls between for \[2, 1\]"),
        (f"{STAGED}\ndef make(*_): return Staged((1,))", {"space": "layers"}, r"first, second, but calls .*\[1\]"),
        (
            f"{STAGED}\nclass Empty(Staged):\n    stages = ()\ndef make(*_): return Empty(())",
            {"space": "layers"},
            "names no stages",
        ),
    ],
)
def test_a_model_without_what_a_space_needs_is_refused_in_one_line(body, mix, message, digits, tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, HEADER + body, "net_of_test")
    with pytest.raises(UsageError, match=message) as raised:
        check(digits, "net_of_test:make", {"policy": "mixup"} | mix)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("mix", [{"space": "inputs"}, {"space": "logits"}, {"policy": "approximate_mixup"}])
def test_a_model_of_one_map_is_mixed_in_its_inputs_and_logits(mix, digits, tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, f"{HEADER}\ndef make(*_): return Net()", "net_of_test")
    check(digits, "net_of_test:make", {"policy": "mixup"} | mix)


def test_a_mask_that_does_not_fit_a_stage_is_refused_by_the_stage_s_name(digits):
    check(digits, "mlp", {"policy": "mixup", "space": "layers"})
    check(digits, "cnn", {"policy": "cutmix", "space": "layers"})
    with pytest.raises(UsageError, match=r"of layer 1 \[32, 4\] on each device: this mask needs an axis longer than 1"):
        check(digits, "mlp", {"policy": "cutmix", "space": "layers"})
    with pytest.raises(UsageError, match=r"of inputs \[32, 8, 8, 1\] on each device: "):
        check(digits, "mlp", {"policy": "multimix(num_mixed=3)", "space": "layers"})


# --- a model of one map, and dropout


class Whole:
    """A bound model that has only its call."""

    def __call__(self, batch, *, train):
        assert train
        return 2 * batch


@pytest.mark.parametrize("space", ["inputs", "logits"])
def test_a_model_of_one_map_has_the_loss_of_its_logits(space):
    batch, labels, rng = jax.random.normal(jax.random.key(1), (16, 5)), jnp.eye(16)[:, :5], jax.random.key(2)
    mix = objectives.Slots(**{space: functools.partial(jaxmix.mixup, alpha=0.7)})
    loss, metrics = objectives.cross_entropy(Whole(), batch, labels, rng, slots=mix)
    mixed, targets = jaxmix.mixup(batch, labels, jax.random.split(rng, 3)[mix._fields.index(space)], alpha=0.7)
    assert float(loss) == pytest.approx(float(optax.softmax_cross_entropy(2 * mixed, targets).mean()), rel=1e-5)
    assert ("clean_loss" in metrics) == (space == "logits")


def test_dropout_has_a_key_of_its_own_at_every_step_and_device_and_the_same_one_again(digits):
    def keys_as_loss(model, batch, labels, rng, step):
        mine = jax.random.uniform(model.make_rng("dropout")) + 0 * model.classify(jnp.zeros((1, 4))).sum()
        return mine, {"loss": jax.lax.all_gather(jnp.stack([mine, jax.random.uniform(rng)]), parallel.AXIS)}

    _, state, samples, step = setup(digits, keys_as_loss, name="mlp")
    mapped, batch, rng = parallel.train_step(step), splits.Batch(np.zeros((4, 8), np.int32)), jax.random.key(0)
    later = parallel.place(jax.tree.map(jnp.copy, state)._replace(step=jnp.ones((), jnp.int32)))
    state, seen = parallel.place(state), []
    for _ in range(2):
        state, metrics = mapped(state, samples, batch, rng)
        seen.extend(np.asarray(metrics["loss"]).ravel().tolist())
    assert len(set(seen)) == 16
    _, again = mapped(later, samples, batch, rng)
    assert np.asarray(again["loss"]).ravel().tolist() == seen[8:]


@pytest.mark.parametrize("policy", ["approximate_mixup", "linearized_mixup"])
def test_expansions_go_with_dropout(policy):
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(images.reshape(len(images), -1)))

    objective = mixing.build(config.Mix(policy), num_steps=1)
    variables = Dropped().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    bound = nn.apply(objective, Dropped(), mutable="batch_stats")

    @jax.jit
    def loss(rng):
        images, labels = jnp.ones((8, 8, 8, 1)), jnp.eye(8, 10)
        return bound(variables, images, labels, jax.random.key(0), 0, rngs={"dropout": rng})[0][0]

    losses = [float(loss(jax.random.key(seed))) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


# --- layers


class Staged:
    """exp(x²), with a stage after each."""

    stages = ("square", "exponential")

    def features(self, batch, *, train, between):
        assert train
        return between(2, jnp.exp(between(1, batch**2)))[:, None]

    def pool(self, maps):
        return maps[:, 0]

    def classify(self, embedding):
        return embedding


def test_one_layer_is_mixed_with_its_labels_at_each_step_and_all_are_as_likely():
    """The loss tells which: mixing changes the sign of maps and the order of classes."""
    batch, labels = jnp.asarray([[0.5, -1.0, 2.0]]), jnp.asarray([[0.7, 0.2, 0.1]])
    logits = [jnp.exp((-batch) ** 2), jnp.exp(-(batch**2)), -jnp.exp(batch**2)]
    expected = [float(optax.softmax_cross_entropy(each, labels[:, ::-1]).mean()) for each in logits]
    assert len({round(loss, 3) for loss in expected}) == 3
    mix = objectives.Slots(layers=lambda maps, labels, rng: (-maps, labels[:, ::-1]))

    @jax.jit
    @jax.vmap
    def losses(rng):
        return objectives.cross_entropy(Staged(), batch, labels, rng, slots=mix)

    found, metrics = losses(jax.random.split(jax.random.key(0), 600))
    counts = [int(np.isclose(found, loss, rtol=1e-5).sum()) for loss in expected]
    assert sum(counts) == 600
    np.testing.assert_allclose(counts, 200, atol=60)  # five standard deviations
    assert set(metrics) == {"loss"}  # no sample is clean


def blend(maps, labels, rng):
    """A MixFn without chance."""
    return tuple(0.75 * each + 0.25 * jnp.roll(each, 1, axis=0) for each in (maps, labels))


@pytest.mark.slow
def test_maps_of_a_real_network_are_mixed_by_hand_at_the_layer_that_is_drawn():
    """In training, where the statistics of later layers are those of mixed maps."""
    model, images = build("cnn", shape=(8, 8, 1)), jax.random.normal(jax.random.key(1), (8, 8, 8, 1))
    labels, variables = jnp.eye(8, 10), jax.jit(model.init)(jax.random.key(0), images)
    apply = functools.partial(model.apply, variables, train=True, mutable="batch_stats", method="features")

    @jax.jit
    def by_hand(layer):
        def between(stage, maps):
            return jnp.where(stage == layer, blend(maps, labels, None)[0], maps)

        return apply(between(0, images), between=between)

    @jax.jit
    def configured(rng):
        inside = functools.partial(objectives._features, mix=blend)
        return nn.apply(inside, model, mutable="batch_stats")(variables, images, labels, rng)

    expected, seen = [by_hand(layer) for layer in range(4)], collections.Counter()
    for seed in range(24):
        (maps, targets), statistics = configured(jax.random.key(seed))
        np.testing.assert_allclose(targets, blend(labels, labels, None)[0], rtol=1e-6)
        near = [np.allclose(maps, other, rtol=1e-4, atol=1e-5) for other, _ in expected]
        assert near.count(True) == 1
        chex.assert_trees_all_close(statistics, expected[near.index(True)][1], rtol=1e-4, atol=1e-5)
        seen[near.index(True)] += 1
    assert set(seen) == {0, 1, 2, 3}


PLACES = {
    "mlp": {"layer 1": (2, 8), "layer 2": (2, 8)},
    "cnn": {"convolution 1": (2, 28, 28, 4), "convolution 2": (2, 14, 14, 8), "convolution 3": (2, 7, 7, 16)},
    "wrn": {"stage 1": (2, 28, 28, 16), "stage 2": (2, 14, 14, 32)},
    "preact_resnet18": {"stage 1": (2, 28, 28, 4), "stage 2": (2, 14, 14, 8)},
    "resnet50": {"stage 1": (2, 7, 7, 16), "stage 2": (2, 4, 4, 32)},
    "vit": {"block 1": (2, 17, 8), "block 2": (2, 17, 8)},
}


@pytest.mark.parametrize("name", PLACES)
def test_stages_have_these_names_and_shapes(name):
    fields = {"depth": 3} if name == "vit" else {}
    inputs = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    found = stages.shapes(build(name, **fields), name, inputs)
    assert {place: maps.shape for place, maps in found.items()} == {"inputs": inputs.shape} | PLACES[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn", "wrn", "vit"])
def test_samples_that_change_places_at_a_stage_leave_the_network_so(name):
    """A network outside of training treats each sample alone: what is done between its stages, and no more, is seen."""
    fields = {"depth": 3} if name == "vit" else {}
    model, images = build(name, **fields), jax.random.normal(jax.random.key(1), (4, 28, 28, 1))

    @jax.jit
    def features(variables, stage):
        def between(i, maps):
            return jnp.where(i == stage, jnp.roll(maps, 1, axis=0), maps)

        return model.apply(variables, images, between=between, method="features")

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.01, 0.3, leaf.shape), leaf.dtype), shapes)
    plain = features(variables, 0)
    assert not np.allclose(plain, np.roll(plain, 1, axis=0), rtol=1e-3)
    for stage in range(1, 1 + len(model.stages)):
        np.testing.assert_allclose(features(variables, stage), np.roll(plain, 1, axis=0), rtol=1e-4)


@pytest.mark.slow
def test_a_step_mixes_layers_on_every_device_and_trains_all_parameters(digits):
    objective = mixing.build(config.Mix("mixup", "layers"), num_steps=1)
    _, state, samples, step = setup(digits, objective, optimizer=optax.sgd(0.1), name="mlp", width=32)
    before = jax.device_get(state.params)
    batch = parallel.split(splits.Batch(np.arange(64, dtype=np.int32)))
    after, metrics = parallel.train_step(step)(parallel.place(state), samples, batch, jax.random.key(0))
    assert np.isfinite(metrics["loss"])
    assert metrics["skipped"] == 0
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after.params), strict=True):
        assert not np.array_equal(old, new)


def test_a_model_of_one_s_own_with_stages_is_mixed_everywhere(digits, tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, f"{HEADER}{STAGED}\ndef make(*_): return Staged()", "net_of_test")
    for mix in ({"policy": "cutmix", "space": "layers"}, {"space": "embeddings"}, {"policy": "dense_multimix"}):
        check(digits, "net_of_test:make", {"policy": "mixup"} | mix)


# --- what the page says, and trained runs as functions


def examples(kind):
    """The page's blocks of a language, by their first lines."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / "train" / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return {block.partition("\n")[0]: block for block in blocks}


@pytest.fixture
def own_run(common, tmp_path_factory):
    """The page's model, trained by the page's command on a user's data for two epochs, in a folder of its own."""

    def make(folder):
        folder.mkdir()
        code = examples("python")["from flax import linen as nn"]
        assert len(code.splitlines()) <= 15
        (folder / "net.py").write_text(code)
        chosen = data.load(config.Data(num_train=640)).splits
        arrays = {
            f"{name}_{part}": getattr(chosen[name], field)
            for name in ("train", "test")
            for part, field in (("images", "inputs"), ("labels", "labels"))
        }
        np.savez(folder / "mine.npz", class_names=np.array([f"digit {i}" for i in range(10)]), **arrays)
        (command,) = [line for line in "".join(examples("sh").values()).splitlines() if "net:make" in line]
        assert command.startswith("python -m train.main ")
        more = [
            "--config.data.name=mine.npz",
            "--config.num_epochs=2",
            "--config.data.batch_size=64",
            "--workdir=runs/x",
        ]
        with contextlib.chdir(folder):
            assert main.main([*command.split()[3:], *more]) == 0
        sys.modules.pop("net")

    return once(common, "own_model", make, tmp_path_factory.mktemp("own_model") / "run")


@pytest.mark.slow
def test_a_run_is_a_function_of_samples_without_its_data_for_any_number_of_them(own_run, monkeypatch):
    monkeypatch.chdir(own_run)
    images, labels = (np.load("mine.npz")[f"test_{part}"] for part in ("images", "labels"))
    pathlib.Path("mine.npz").rename("elsewhere.npz")
    inside = {"images": images}
    exec(examples("python")["from train import runs"], inside)
    model, logits = inside["model"], inside["model"].logits(images)
    last = json.loads(pathlib.Path("runs/x/metrics.jsonl").read_text().splitlines()[-1])
    hits = [name == f"digit {label}" for name, label in zip(inside["names"], labels, strict=True)]
    assert np.mean(hits) == pytest.approx(last["test_accuracy"])
    assert np.mean(hits) > 0.5
    probabilities = model.probabilities(images)
    np.testing.assert_allclose(np.log(probabilities), jax.nn.log_softmax(logits), atol=1e-5)
    for n in (0, 1, 3, 17):
        found = runs.load("runs/x", batch_size=8).logits(images[:n]) if n == 17 else model.logits(images[:n])
        assert found.shape == (n, 10)
        np.testing.assert_allclose(found, logits[:n], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.logits(images[..., 0]), logits)
    for wrong in (images[0], images[:, :7], images / 255, images[:, 0, 0], 3):
        with pytest.raises(UsageError, match=r"does not match what .*give images uint8\[n, 8, 8, 1\], from 0 to 255"):
            model.logits(wrong)
    pathlib.Path("runs/x/data.json").write_text("{}")
    with pytest.raises(UsageError, match=r"data\.json is damaged"):
        runs.load("runs/x")
    pathlib.Path("runs/x/data.json").unlink()  # as of an old run
    with pytest.raises(UsageError, match=r"mine\.npz"):
        runs.load("runs/x")
    pathlib.Path("elsewhere.npz").rename("mine.npz")
    np.testing.assert_array_equal(runs.load("runs/x").logits(images), logits)


@pytest.mark.slow
def test_a_run_of_one_s_own_model_is_measured_but_for_embeddings_that_it_has_not(own_run, monkeypatch):
    monkeypatch.chdir(own_run)
    found = evaluation.evaluate(pathlib.Path("runs/x"), evaluation.Options(only=("calibration",)), quiet=True)
    last = json.loads(pathlib.Path("runs/x/metrics.jsonl").read_text().splitlines()[-1])
    assert found["calibration"].values["accuracy"] == pytest.approx(last["test_accuracy"], abs=1e-6)
    with pytest.raises(UsageError, match="embeddings does not apply: it needs a model with features"):
        evaluation.evaluate(pathlib.Path("runs/x"), evaluation.Options(only=("embeddings",)), quiet=True)
