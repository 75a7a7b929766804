"""What holds for every method, over the table in conftest."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import jaxtyping
import numpy as np
import pytest

import jaxmix
from tests.conftest import METHODS, images, one_hot

KEY = jax.random.key(7)
HALVES = slice(0, 8), slice(8, 16)
DTYPES = ["float32", "bfloat16", "float16", "uint8"]


@functools.cache
def jitted(name):
    return jax.jit(METHODS[name])


@pytest.fixture(params=METHODS)
def fn(request):
    return jitted(request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes_are_kept(fn, dtype):
    batch, labels = images(dtype=dtype), one_hot()
    chex.assert_trees_all_equal_shapes_and_dtypes(fn(batch, labels, KEY), (batch, labels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_get_the_share_that_pixels_get(fn, dtype):
    """Sample i is the constant image of unit vector i, so that the mean over space is the share of each sample."""
    n, scale = 8, 255 if dtype == "uint8" else 1
    batch = jnp.broadcast_to((scale * jnp.eye(n)).astype(dtype)[:, None, None, :], (n, 6, 5, n))
    mixed, labels = fn(batch, one_hot(n), KEY)
    shares = np.asarray(mixed, np.float64).mean((1, 2)) / scale
    tolerance = {"float32": 1e-6, "bfloat16": 4e-3, "float16": 5e-4, "uint8": 2e-3}[dtype]
    np.testing.assert_allclose(labels, shares, atol=tolerance)
    assert np.ptp(np.asarray(labels)) > 0.1


def test_labels_sum_to_one_in_float32(fn):
    for seed in range(5):
        labels = fn(images(), one_hot(), jax.random.key(seed))[1]
        np.testing.assert_allclose(labels.sum(1), 1, atol=1.2e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_labels_sum_to_one_to_half_precision(fn, dtype):
    labels = fn(images(), one_hot(dtype=dtype), KEY)[1]
    assert labels.dtype == dtype
    np.testing.assert_allclose(np.asarray(labels, np.float64).sum(1), 1, atol=float(jnp.finfo(dtype).eps))


def test_uint8_pixels_are_the_rounded_float_result(fn):
    mixed = fn(images(dtype="uint8"), one_hot(), KEY)[0]
    as_float = fn(images(), one_hot(), KEY)[0]
    np.testing.assert_array_equal(mixed, np.clip(np.round(as_float), 0, 255))


def test_half_precision_is_computed_in_float32(fn):
    batch = images(dtype="bfloat16")
    mixed = fn(batch, one_hot(), KEY)[0]
    as_float = fn(batch.astype(jnp.float32), one_hot(), KEY)[0]
    np.testing.assert_array_equal(mixed, as_float.astype(jnp.bfloat16))


@pytest.mark.parametrize("name", METHODS)
def test_jit_equals_eager(name):
    eager = METHODS[name](images(), one_hot(), KEY)
    chex.assert_trees_all_close(jitted(name)(images(), one_hot(), KEY), eager, rtol=1e-6, atol=1e-5)


def test_vmap_equals_a_loop(fn):
    batches = jnp.stack([images(seed=seed) for seed in range(3)])
    labels = jnp.stack([one_hot()] * 3)
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(fn)(batches, labels, keys)
    for i in range(3):
        alone = fn(batches[i], labels[i], keys[i])
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), alone, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"varmixup"}))  # through that none flows, by design
def test_gradients_reach_every_sample_and_preserve_the_total(name):
    """Weights of a sample and of its partner sum to 1, and partners are a permutation."""
    fn = jitted(name)
    gradient = np.asarray(jax.grad(lambda batch: fn(batch, one_hot(), KEY)[0].sum())(images()), np.float64)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient.sum(), gradient.size, rtol=1e-5)
    assert np.all(gradient.sum((1, 2, 3)) > 0)


def _on(mesh, *arrays):
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("devices")))


def test_shard_map_mixes_on_each_device_as_that_would_alone(fn):
    """With shard_map's check of what varies over devices, which is on by default."""
    batch, labels = images(n=16), one_hot(16)

    def shard(batch, labels):
        return fn(batch, labels, jax.random.fold_in(KEY, jax.lax.axis_index("devices")))

    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    mapped = jax.shard_map(shard, mesh=mesh, in_specs=PartitionSpec("devices"), out_specs=PartitionSpec("devices"))
    halves = [fn(batch[half], labels[half], jax.random.fold_in(KEY, i)) for i, half in enumerate(HALVES)]
    expected = jax.tree.map(lambda *parts: jnp.concatenate(parts), *halves)
    chex.assert_trees_all_close(jax.jit(mapped)(*_on(mesh, batch, labels)), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, AxisType.Explicit) for name in METHODS), ("mixup", AxisType.Auto), ("kmixup", AxisType.Auto)],
)
def test_a_batch_that_lies_on_several_devices_is_mixed_as_one(name, kind):
    fn, batch, labels = jitted(name), images(n=16), one_hot(16)
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(kind,), devices=jax.devices()[:2])
    placed = _on(mesh, batch, labels)
    mixed = fn(*placed, KEY)
    chex.assert_trees_all_close(mixed, fn(batch, labels, KEY), rtol=1e-6, atol=1e-5)
    for before, after in zip(placed, mixed, strict=True):
        assert after.sharding.is_equivalent_to(before.sharding, before.ndim)


@pytest.mark.parametrize("name", ["mixup", "kcutmix"])
def test_gradients_reach_a_batch_on_a_mesh_of_explicit_axes(name):
    batch, labels = images(n=16), one_hot(16)
    gradient = jax.grad(lambda batch, labels: jnp.sum(METHODS[name](batch, labels, KEY)[0] ** 2))
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        got = jax.jit(gradient)(*_on(mesh, batch, labels))
    np.testing.assert_allclose(got, gradient(batch, labels), rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        jaxmix.mixup,
        functools.partial(jaxmix.kmixup, k=4),
        functools.partial(jaxmix.kmixup, k=4, solver="exact"),
        functools.partial(jaxmix.multimix, num_mixed=5, alpha=0.3),
    ],
    ids=["mixup", "sinkhorn", "exact", "multimix"],
)
def test_calls_outside_of_jit_compile_once(method, caplog):
    batch, labels = jnp.reshape(images(), (8, -1)), one_hot()

    def compiled(key):
        caplog.clear()
        with jax.log_compiles():
            method(batch, labels, key)
        return [record.message for record in caplog.records if record.message.startswith("Compiling")]

    jax.clear_caches()
    assert compiled(KEY)
    assert compiled(jax.random.key(8)) == []


@pytest.mark.parametrize("name", [name for name in METHODS if name in ("mixup", "cutmix", "hmix", "gmix", "kmixup")])
def test_an_alpha_that_is_an_array_of_jax_works_under_jit(name):
    method = jax.jit(functools.partial(METHODS[name], alpha=jnp.float32(0.5)))
    chex.assert_trees_all_close(
        method(images(), one_hot(), KEY), METHODS[name](images(), one_hot(), KEY, alpha=0.5), rtol=1e-6, atol=1e-5
    )
    with pytest.raises(ValueError, match="alpha must be positive and finite, got -1"):
        jax.jit(functools.partial(METHODS[name], alpha=jnp.float32(-1)))(images(), one_hot(), KEY)


def test_one_key_one_result(fn):
    first, again = (fn(images(), one_hot(), KEY) for _ in range(2))
    other = fn(images(), one_hot(), jax.random.key(8))
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first[1], other[1])


def test_legacy_keys_draw_the_same(fn):
    legacy = fn(images(), one_hot(), jax.random.PRNGKey(7))
    chex.assert_trees_all_equal(legacy, fn(images(), one_hot(), KEY))


@pytest.mark.parametrize("name", METHODS)
def test_one_trace_for_all_keys(name):
    chex.clear_trace_counter()
    fn = jax.jit(chex.assert_max_traces(lambda *args: METHODS[name](*args), n=1))
    for seed in range(3):
        fn(images(), one_hot(), jax.random.key(seed))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup"])
def test_one_trace_for_all_traced_alphas(name):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def fn(alpha):
        return METHODS[name](images(), one_hot(), KEY, alpha=alpha)

    assert not np.array_equal(fn(0.1)[1], fn(1.0)[1])


def test_every_leaf_of_a_batch_is_mixed_alike(fn):
    batch = images()
    tree = {"image": batch, "mask": (batch[..., :1] > 128).astype(jnp.float32), "depth": batch[..., 0]}
    labels = {"class": one_hot(), "box": jnp.arange(8.0)}
    mixed, mixed_labels = fn(tree, labels, KEY)
    alone, alone_labels = fn(batch, one_hot(), KEY)
    chex.assert_trees_all_close(mixed["image"], alone, rtol=1e-6)
    chex.assert_trees_all_close(mixed["depth"], alone[..., 0], rtol=1e-6)
    chex.assert_trees_all_close(mixed_labels["class"], alone_labels, rtol=1e-6)
    np.testing.assert_allclose(mixed_labels["box"], alone_labels @ np.arange(8.0), atol=1e-5)
    threshold = fn({"image": batch, "mask": tree["mask"][..., 0]}, one_hot(), KEY)[0]["mask"]
    np.testing.assert_allclose(mixed["mask"][..., 0], threshold, atol=1e-6)


@pytest.mark.parametrize("space", [(7,), (1, 9), (4, 3, 5)], ids=["sequence", "flat_image", "video"])
def test_any_rank_of_space(fn, space):
    n = 8
    batch = jnp.broadcast_to(jnp.eye(n).reshape(n, *(1,) * len(space), n), (n, *space, n))
    mixed, labels = fn(batch, one_hot(n), KEY)
    np.testing.assert_allclose(labels, np.asarray(mixed).mean(tuple(range(1, 1 + len(space)))), atol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "mixup_shared", "kmixup", "kmixup_as_released", "sometimes"])
def test_tables_are_mixed_whole(name):
    mixed, labels = METHODS[name](one_hot(), one_hot(), KEY)
    np.testing.assert_array_equal(mixed, labels)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "sometimes", "one_of"])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_any_number_of_samples(name, n):
    mixed, labels = METHODS[name](images(n), one_hot(n), KEY)
    assert mixed.shape == images(n).shape
    np.testing.assert_allclose(labels.sum(1), 1, atol=1.2e-7)


def test_labels_may_be_missing(fn):
    mixed, labels = fn(images(), None, KEY)
    assert labels is None
    np.testing.assert_array_equal(mixed, fn(images(), one_hot(), KEY)[0])


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [(np.arange(8), "one_hot"), (np.arange(8, dtype=np.uint8), "one_hot"), (np.eye(8, dtype=bool), "astype")],
)
def test_labels_that_are_not_float_are_refused(method, labels, remedy):
    with pytest.raises(TypeError, match=rf"labels have dtype {labels.dtype.name[:3]}.*{remedy}"):
        method(images(), labels, KEY)


@pytest.mark.parametrize(("dtype", "remedy"), [("int32", "one_hot"), ("bool", "one_hot"), ("complex64", "cast")])
def test_batches_that_cannot_be_averaged_are_refused(method, dtype, remedy):
    with pytest.raises(TypeError, match=rf"batch.*{dtype}.*{remedy}"):
        method({"image": images(), "map": jnp.ones((8, 6, 5), dtype)}, one_hot(), KEY)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": images(), "audio": jnp.ones((8, 100, 2))}, r"batch\['audio'\] has shape \(8, 100, 2\)"),
        ({"image": images(), "other": images(4)}, r"batch\['other'\] has shape \(4, 6, 5, 8\)"),
        (images()[:0], "empty"),
        (jnp.float32(1), "only scalars"),
        ({}, "no arrays"),
    ],
)
def test_batches_without_a_common_shape_are_refused(method, batch, message):
    with pytest.raises(ValueError, match=message):
        method(batch, one_hot(), KEY)


def test_labels_for_another_number_of_samples_are_refused(method):
    with pytest.raises(ValueError, match=r"labels have shape \(7, 7\), but the batch has 8 samples"):
        method(images(), one_hot(7), KEY)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup"])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), np.float32(0), jnp.float32(-2)])
def test_alphas_without_a_law_are_refused(name, alpha):
    with pytest.raises(ValueError, match=f"alpha must be positive and finite, got {alpha}"):
        METHODS[name](images(), one_hot(), KEY, alpha=alpha)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup"])
@pytest.mark.parametrize("alpha", ["1", None, np.ones(1), jnp.ones(8)])
def test_alphas_that_are_no_single_number_are_refused(name, alpha, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match="alpha must be a single number, got"):
        METHODS[name](images(), one_hot(), KEY, alpha=alpha)


def test_no_method_leaves_the_device():
    for name in METHODS:
        assert "callback" not in jitted(name).lower(images(), one_hot(), KEY).as_text(), name


@pytest.mark.parametrize("name", METHODS)
def test_no_nan_is_made_no_tracer_leaks_and_nothing_is_transferred(name):
    """With all arguments on the device; and no rank is promoted, which raises in all of these tests."""
    batch, labels, key = images(), one_hot(), jax.random.key(7)
    fn = jax.jit(lambda *arguments: METHODS[name](*arguments))
    with jax.debug_nans(True), jax.checking_leaks(), jax.transfer_guard("disallow"):
        jax.block_until_ready(fn(batch, labels, key))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "hmix", "gmix", "kmixup"])
def test_shared_draws_one_ratio_for_the_batch(name):
    def shares(shared):
        labels = functools.partial(METHODS[name], shared=shared)(images(), one_hot(), KEY)[1]
        own = np.diagonal(labels)
        return own[own < 1]

    assert np.ptp(shares(True)) < 1e-6
    assert np.ptp(shares(False)) > 0.05


def test_shared_cutmix_draws_one_box_for_the_batch():
    batch = jnp.broadcast_to(jnp.eye(8)[:, None, None, :], (8, 6, 5, 8))
    mixed = jaxmix.cutmix(batch, one_hot(), jax.random.key(3), pairing=jaxmix.pairings.roll, shared=True)[0]
    own = np.stack([mixed[i, :, :, i] for i in range(8)])
    assert 0 < own.mean() < 1
    np.testing.assert_array_equal(own, np.broadcast_to(own[:1], own.shape))
