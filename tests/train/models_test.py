"""Models: their sizes, their three maps, and every shipped config on mock data."""

import functools
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import cli, config, data, models
from train.data import augmentation
from train.learning import checks, mixing, optimizers, steps
from train.running import parallel

SMALL = {
    "mlp": {"width": 8, "depth": 2},
    "cnn": {"width": 4},
    "preact_resnet18": {"width": 4},
    "wrn": {"width": 1, "depth": 10},
    "resnet50": {"width": 4},
    "vit": {"width": 8, "depth": 2, "patch_size": 7},
}


def build(name, shape=(28, 28, 1), classes=10, **fields):
    return models.build(config.Config(model=config.Model(name=name, **(SMALL[name] | fields))), shape, classes)


@pytest.mark.parametrize(
    ("fields", "shape", "classes", "millions"),
    [
        ({"name": "preact_resnet18"}, (32, 32, 3), 10, 11.17),
        ({"name": "wrn", "depth": 28, "width": 10}, (32, 32, 3), 10, 36.48),
        ({"name": "wrn", "depth": 16, "width": 8}, (32, 32, 3), 10, 10.96),
        ({"name": "resnet50"}, (224, 224, 3), 1000, 25.56),
        ({"name": "vit", "width": 384, "depth": 12, "patch_size": 16}, (224, 224, 3), 1000, 22.05),
    ],
)
def test_models_have_the_published_number_of_parameters(fields, shape, classes, millions):
    model = models.build(config.Config(model=config.Model(**fields)), shape, classes)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SMALL)
def test_maps_have_the_compute_s_dtype_and_all_else_is_float32(name, dtype):
    model, images = build(name, dtype=dtype), jnp.zeros((3, 28, 28, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    maps = jax.eval_shape(functools.partial(model.apply, method="features"), variables, images)
    embedding = jax.eval_shape(functools.partial(model.apply, method="pool"), variables, maps)
    logits = jax.eval_shape(functools.partial(model.apply, method="classify"), variables, embedding)
    assert maps.dtype == dtype
    assert embedding == jax.ShapeDtypeStruct((3, maps.shape[2]), jnp.float32)
    assert logits == jax.ShapeDtypeStruct((3, 10), jnp.float32)
    assert jax.eval_shape(functools.partial(model.apply, method="classify"), variables, maps).shape == (
        *maps.shape[:2],
        10,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_a_model_is_its_three_maps_and_bfloat16_agrees_roughly(name):
    images = jax.random.normal(jax.random.key(1), (3, 28, 28, 1))
    model = build(name)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    logits = jax.jit(model.apply)(variables, images)
    maps = jax.jit(functools.partial(model.apply, method="features"))(variables, images)
    pooled = maps[:, 0] if name == "vit" else maps.mean(axis=1)
    head = variables["params"]["head"]
    np.testing.assert_allclose(logits, pooled @ head["kernel"] + head["bias"], rtol=1e-4, atol=1e-5)
    rough = jax.jit(build(name, dtype="bfloat16").apply)(variables, images)
    np.testing.assert_allclose(rough, logits, atol=0.1 * float(jnp.abs(logits).max()))
    assert not np.array_equal(rough, logits)


def test_without_final_norm_feature_maps_may_be_negative():
    images = jax.random.normal(jax.random.key(1), (3, 16, 16, 1))
    for final_norm in (True, False):
        model = build("wrn", shape=(16, 16, 1), final_norm=final_norm)
        maps, _ = jax.jit(functools.partial(model.init_with_output, method="features"))(jax.random.key(0), images)
        assert bool((maps < 0).any()) is not final_norm


@pytest.mark.slow
def test_the_vit_leaves_the_attention_of_its_class_token():
    model = build("vit", width=128)
    images = jax.random.normal(jax.random.key(1), (3, 28, 28, 1))
    variables = model.init(jax.random.key(0), images)
    maps, state = model.apply(variables, images, method="features", mutable="intermediates")
    (attention,) = jax.tree.leaves(state)
    assert attention.shape == (3, 2, 17, 17)
    np.testing.assert_allclose(attention[:, :, 0].mean(axis=1).sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.apply(variables, maps, method="pool"), maps[:, 0])


def test_blocks_add_to_what_they_are_given():
    """With all convolutions but the stem's at 0, stages of equal width pass the stem's maps on."""
    backbone = models.PreActResNet(4, (4,), 2, final_norm=False, dtype=jnp.float32)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = jax.jit(functools.partial(backbone.init, train=False))(jax.random.key(0), images)
    params = {
        name: jax.tree.map(jnp.zeros_like, leaf) if name.startswith("Conv") and name != "Conv_0" else leaf
        for name, leaf in variables["params"].items()
    }
    stem = jax.lax.conv_general_dilated(
        images, params["Conv_0"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    maps = jax.jit(functools.partial(backbone.apply, train=False))(variables | {"params": params}, images)
    np.testing.assert_allclose(maps, stem.reshape(2, 64, 4), atol=1e-5)


# --- optimisers


def rates(**fields):
    schedule = optimizers.schedule(config.Optimizer(learning_rate=0.4, **fields), steps_per_epoch=10, num_epochs=20)
    return np.array([float(schedule(step)) for step in range(201)])


def test_learning_rates_follow_their_schedules():
    cosine = rates(warmup_epochs=2.0)
    np.testing.assert_allclose(cosine[:21], 0.4 * np.arange(21) / 20, rtol=1e-6)
    np.testing.assert_allclose(cosine[20:], 0.2 * (1 + np.cos(np.pi * np.arange(181) / 180)), atol=1e-7)
    stepped = rates(schedule="steps", milestones=(10, 15), warmup_epochs=1.0)
    np.testing.assert_allclose(
        stepped[[9, 10, 99, 100, 149, 150, 200]], [0.36, 0.4, 0.4, 0.04, 0.04, 0.004, 0.004], rtol=1e-5
    )
    np.testing.assert_allclose(rates(schedule="constant", warmup_epochs=0.0), 0.4)


def test_sgd_is_pytorch_s():
    """v = m v + g + wd p; p = p - lr v."""
    optimizer = optimizers.build(config.Optimizer(name="sgd", momentum=0.9, weight_decay=0.1), lambda step: 0.5)
    params, velocity = np.array([1.0, -2.0]), np.zeros(2)
    ours = jnp.asarray(params)
    state = optimizer.init(ours)
    for gradient in ([0.3, 0.1], [-0.2, 0.4], [0.0, 0.5]):
        updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
        ours = ours + updates
        velocity = 0.9 * velocity + np.array(gradient) + 0.1 * params
        params = params - 0.5 * velocity
    np.testing.assert_allclose(ours, params, rtol=1e-6)


# --- configs


@pytest.fixture
def mock_tfds(monkeypatch):
    """tfds gives random images and labels of the right shapes, without files."""
    tfds = pytest.importorskip("tensorflow_datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow, which draws them
        pytest.importorskip("tensorflow")
        with tfds.testing.mock_data(num_examples=1500):
            source = tfds.core.data_sources.array_record.ArrayRecordDataSource
            monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
            monkeypatch.setattr(source, "__getitems__", lambda self, keys: [self[key] for key in keys])
            yield


COMPILED = ("cifar10", "digits")  # of others, which take minutes to compile in all, shapes are checked
CONFIGS = sorted(path.stem for path in cli.CONFIGS.glob("*.py") if "def get_config(" in path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_takes_a_step(name, mock_tfds):
    """On one device and a smaller batch; full models, but ResNet-50 on smaller images."""
    chosen = cli.parse([f"--config={cli.CONFIGS / name}.py"], "").config
    chosen.data.batch_size = 32 if "k=16" in chosen.mix.policy else 16
    chosen.data.image_size, chosen.data.num_train = 64, min(chosen.data.num_train, 1000)
    dataset = data.load(chosen.data)
    checks.check(chosen, dataset, devices=1)
    split = dataset.splits["train"]
    model = models.build(chosen, split.shape, dataset.num_classes)
    learning_rate = optimizers.schedule(chosen.optimizer, steps_per_epoch=10, num_epochs=chosen.num_epochs)
    optimizer = optimizers.build(chosen.optimizer, learning_rate)
    init = functools.partial(steps.init, model, optimizer)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *split.shape)))
    rng = np.random.default_rng(0)  # compiling a large model's own initialisation takes longer than its step
    fill = {jnp.dtype("float32"): lambda shape: rng.uniform(0, 0.03, shape), jnp.dtype("int32"): np.zeros}
    state = jax.tree.map(lambda leaf: jnp.asarray(fill[leaf.dtype](leaf.shape), leaf.dtype), shapes)
    before = jax.device_get(state.params["head"])
    step = functools.partial(
        steps.train_step,
        model=model,
        augment=augmentation.build(chosen.data.augmentation, split.shape, cropped=split.resident[0] is None),
        objective=mixing.build(chosen.mix, num_steps=1),
        optimizer=optimizer,
        num_classes=dataset.num_classes,
        axis_name=parallel.AXIS,
    )
    order = data.epoch_order(len(split), chosen.data.batch_size, seed=0, epoch=0)[:2]
    samples = steps.Samples(*split.resident, dataset.mean, dataset.std)
    mapped = jax.jit(jax.vmap(step, (None, None, 0, None), axis_name=parallel.AXIS, out_axes=None))
    for batch in split.batches(order, epoch=0):
        arguments = state, samples, jax.tree.map(lambda leaf: leaf[None], batch), jax.random.key(0)
        if name not in COMPILED:
            after, _ = jax.eval_shape(mapped, *arguments)
            chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
            return
        state, metrics = mapped(*arguments)
    assert int(state.step) == 2
    assert np.isfinite(metrics["loss"])
    assert not np.array_equal(state.params["head"]["kernel"], before["kernel"])
