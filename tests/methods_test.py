"""What holds for every method, over the table in conftest."""

import functools

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmix
from tests.conftest import METHODS, group_size, images, middle, needs_space, one_hot, options, quickly, selects, taking

KEY = jax.random.key(7)
DTYPES = ["float32", "bfloat16", "float16", "uint8"]


@functools.cache
def jitted(name):
    return jax.jit(METHODS[name])


@functools.cache
def everything(seed=0):
    """One batch of all that may be mixed, so that one program says what becomes of each: of rank 4, 3 and 2.

    The last channels of sample i are a probe, the constant image of unit vector i, of which the mean over space is the
    share of each sample in the mix.
    """
    n = 8
    probe = np.broadcast_to(np.eye(n, dtype=np.float32)[:, None, None, :], (n, 6, 5, n))
    pixels = np.asarray(images(seed=seed))
    batch = {
        dtype: jnp.asarray(np.concatenate([pixels, 255 * probe if dtype == "uint8" else probe], axis=3)).astype(dtype)
        for dtype in DTYPES
    }
    batch |= {"bfloat16_as_float32": batch["bfloat16"].astype(jnp.float32), "depth": jnp.asarray(pixels[..., 0])}
    batch |= {"mask": jnp.asarray(pixels[..., :1] > 128, jnp.float32)}
    return batch, {dtype: one_hot(dtype=dtype) for dtype in DTYPES[:3]} | {"box": jnp.arange(8.0)}


def lead(seed=0):
    """The numbers of the leaf that leads, alone."""
    return everything(seed)[0]["bfloat16_as_float32"]


def mixed_with_everything(name, rng=KEY, seed=0):
    """What becomes of them and of one-hot labels, by the one program of a method that most tests share."""
    batch, labels = jitted(name)(*everything(seed), rng)
    return batch["bfloat16_as_float32"], labels["float32"]


@pytest.mark.parametrize("name", METHODS)
def test_every_dtype_and_rank_of_leaves_gets_its_share(name):
    batch, labels = everything()
    mixed, mixed_labels = jitted(name)(batch, labels, KEY)
    chex.assert_trees_all_equal_shapes_and_dtypes((mixed, mixed_labels), (batch, labels))
    shares = np.asarray(mixed_labels["float32"], np.float64)
    assert np.ptp(shares) > 0.1
    np.testing.assert_allclose(shares.sum(1), 1, atol=1.2e-7)
    for dtype, tolerance in (("float32", 1e-6), ("bfloat16", 4e-3), ("float16", 5e-4), ("uint8", 2e-3)):
        seen = np.asarray(mixed[dtype][..., 8:], np.float64).mean((1, 2)) / (255 if dtype == "uint8" else 1)
        np.testing.assert_allclose(shares, seen, atol=tolerance)
    for dtype in ("bfloat16", "float16"):
        halves = np.asarray(mixed_labels[dtype], np.float64)
        np.testing.assert_allclose(halves.sum(1), 1, atol=float(jnp.finfo(dtype).eps))
    np.testing.assert_allclose(mixed_labels["box"], shares @ np.arange(8.0), atol=1e-5)
    pixels = np.clip(np.round(mixed["float32"][..., :8]), 0, 255)
    np.testing.assert_array_equal(mixed["uint8"][..., :8], pixels)
    np.testing.assert_array_equal(mixed["bfloat16"], mixed["bfloat16_as_float32"].astype(jnp.bfloat16))
    np.testing.assert_allclose(mixed["depth"], mixed["float32"][..., 0], rtol=1e-6)
    assert np.all((mixed["mask"] >= -1e-6) & (mixed["mask"] <= 1 + 1e-6))


@pytest.mark.parametrize("name", METHODS)
def test_labels_sum_to_one_in_float32(name):
    for seed in range(5):
        labels = mixed_with_everything(name, jax.random.key(seed))[1]
        np.testing.assert_allclose(labels.sum(1), 1, atol=1.2e-7)


@pytest.mark.parametrize("name", METHODS)
def test_jit_equals_eager(name):
    eager = METHODS[name](lead(), one_hot(), KEY)
    chex.assert_trees_all_close(mixed_with_everything(name), eager, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_vmap_has_a_rule_for_everything(name):
    stacked = jax.ShapeDtypeStruct((3, *lead().shape), jnp.float32), jax.ShapeDtypeStruct((3, 8, 8), jnp.float32)
    mapped = jax.eval_shape(jax.vmap(METHODS[name]), *stacked, jax.random.split(KEY, 3))
    assert [leaf.shape for leaf in mapped] == [leaf.shape for leaf in stacked]


@pytest.mark.parametrize("name", quickly("cutmix", "kmixup", "kcutmix", "gmix", "one_of", "one_of_per_sample"))
def test_vmap_equals_a_loop(name):
    batches = np.stack([lead(seed) for seed in range(3)])
    labels = np.stack([one_hot()] * 3)
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(jitted(name))(batches, labels, keys)
    for i in range(3):
        alone = mixed_with_everything(name, keys[i], i)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), alone, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_mix_has_a_gradient_of_its_own_shape(name):
    gradient = jax.grad(lambda batch: METHODS[name](batch, one_hot(), KEY)[0].sum())
    assert jax.eval_shape(gradient, lead()).shape == lead().shape


@pytest.mark.parametrize(
    "name",
    quickly(
        *("mixup", "gmix", "kmixup", "perturbed_erm", "one_of"),
        of=[*taking("shared"), "attentivemix", "kcutmix", "perturbed_erm", "one_of"],
    ),
)
def test_gradients_reach_every_sample_and_preserve_the_total(name):
    """Weights of a sample and of its partner sum to 1, and partners are a permutation."""
    fn = jitted(name)
    gradient = np.asarray(jax.grad(lambda batch: fn(batch, one_hot(), KEY)[0].sum())(images()), np.float64)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient.sum(), gradient.size, rtol=1e-5)
    assert np.all(gradient.sum((1, 2, 3)) > 0)


@pytest.mark.parametrize(
    ("method", "width"),  # of its own, so that there is something to compile
    [
        (jaxmix.mixup, 11),
        (functools.partial(jaxmix.kmixup, k=4), 13),
        (functools.partial(jaxmix.kmixup, k=4, solver="exact"), 17),
        (functools.partial(jaxmix.multimix, num_mixed=5, alpha=0.3), 19),
    ],
    ids=["mixup", "sinkhorn", "exact", "multimix"],
)
def test_calls_outside_of_jit_compile_once(method, width, caplog):
    batch, labels = jnp.asarray(np.asarray(images()).reshape(8, -1)[:, :width]), one_hot()

    def compiled(key):
        caplog.clear()
        with jax.log_compiles():
            method(batch, labels, key)
        return [record.message for record in caplog.records if record.message.startswith("Compiling")]

    assert compiled(KEY)
    assert compiled(jax.random.key(8)) == []


@pytest.mark.parametrize("name", METHODS)
def test_one_key_one_result(name):
    first, again = (mixed_with_everything(name) for _ in range(2))
    other = mixed_with_everything(name, jax.random.key(8))
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("name", METHODS)
def test_legacy_keys_are_taken(name):
    """What they draw is what typed ones do, since JAX takes both: seen of one method that draws all three parts."""
    legacy = jax.random.PRNGKey(7)
    if name == "cutmix":
        chex.assert_trees_all_equal(mixed_with_everything(name, legacy), mixed_with_everything(name))
    jax.eval_shape(METHODS[name], images(), one_hot(), legacy)


@pytest.mark.parametrize("name", taking("alpha"))
def test_one_trace_for_all_traced_alphas_and_arrays_of_jax_are_no_less_checked(name):
    traces = []

    @jax.jit
    def fn(alpha):
        traces.append(None)
        return METHODS[name](images(), one_hot(), KEY, alpha=alpha)

    assert not np.array_equal(fn(0.1)[1], fn(1.0)[1])
    assert len(traces) == 1
    jax.eval_shape(functools.partial(METHODS[name], alpha=jnp.float32(0.5)), images(), one_hot(), KEY)
    with pytest.raises(ValueError, match="alpha must be positive and finite, got -1"):
        jax.eval_shape(functools.partial(METHODS[name], alpha=jnp.float32(-1)), images(), one_hot(), KEY)


@pytest.mark.parametrize("name", [*taking("ratio"), *taking("scale")])
def test_one_trace_for_all_traced_ratios_and_scales(name):
    traces = []

    @jax.jit
    def fn(value):
        traces.append(None)
        chosen = {"ratio": value} if name in taking("ratio") else {"scale": (0.0, value)}
        return METHODS[name](images(), one_hot(), KEY, **chosen)

    assert not np.array_equal(fn(0.2)[1], fn(0.9)[1])
    assert len(traces) == 1


@pytest.mark.parametrize("name", METHODS)
def test_tables_are_mixed_whole_unless_the_mask_has_a_place(name):
    if needs_space(name):
        with pytest.raises(ValueError, match=r"this mask needs an axis longer than 1.*space is \(\)"):
            jitted(name)(one_hot(), one_hot(), KEY)
    else:
        mixed, labels = jitted(name)(one_hot(), one_hot(), KEY)
        np.testing.assert_allclose(mixed, labels, atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_leaves_need_the_same_space_only_where_the_mask_has_a_place(name):
    """A photograph goes with a table and with another resolution: whatever has a row for each sample."""
    batch = {"image": lead(), "small": images(space=(3, 2)), "table": one_hot(), "age": jnp.arange(8.0)}
    if needs_space(name):
        with pytest.raises(
            ValueError, match=r"batch\['(age|small)'\] has shape .*, and does not start with \(8, 6, 5\)"
        ):
            METHODS[name](batch, one_hot(), KEY)
        return
    mixed, labels = METHODS[name](batch, one_hot(), KEY)
    np.testing.assert_allclose(mixed["table"], labels, atol=1e-6)
    np.testing.assert_allclose(mixed["age"], labels @ np.arange(8.0), atol=1e-5)
    for leaf in ("image", "small"):
        np.testing.assert_allclose(mixed[leaf], np.tensordot(labels, batch[leaf], 1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", [*taking("shared"), "sometimes"])
@pytest.mark.parametrize("n", [1, 7])
def test_any_number_of_samples_unless_they_are_matched(name, n):
    if (k := group_size(name, options(METHODS[name]).get("k", 1))) > 1:
        with pytest.raises(ValueError, match=f"k={k} and a batch of {n}"):
            METHODS[name](images(n), one_hot(n), KEY)
        return
    if n > 1:
        mixed, labels = jax.eval_shape(METHODS[name], images(n), one_hot(n), KEY)
    else:
        mixed, labels = jitted(name)(images(n), one_hot(n), KEY)
        np.testing.assert_allclose(labels, [[1]], atol=1.2e-7)
    assert (mixed.shape, labels.shape) == (images(n).shape, (n, n))


@pytest.mark.parametrize("name", METHODS)
def test_labels_may_be_missing(name):
    mixed, labels = METHODS[name](lead(), None, KEY)
    assert labels is None
    np.testing.assert_allclose(mixed, mixed_with_everything(name)[0], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [(np.arange(8), "one_hot"), (np.arange(8, dtype=np.uint8), "one_hot"), (np.eye(8, dtype=bool), "astype")],
)
def test_labels_that_are_not_float_are_refused(method, labels, remedy):
    with pytest.raises(TypeError, match=rf"labels have dtype {labels.dtype.name[:3]}.*{remedy}"):
        method(images(), labels, KEY)


@pytest.mark.parametrize(("dtype", "remedy"), [("int32", "one_hot"), ("bool", "one_hot"), ("complex64", "cast")])
@pytest.mark.parametrize("name", [name for name in METHODS if not selects(name)])
def test_what_cannot_be_averaged_is_refused(name, dtype, remedy):
    with pytest.raises(TypeError, match=rf"batch\['map'\] has dtype {dtype}.*{remedy}.*booleans, such as cutmix'"):
        METHODS[name]({"image": images(), "map": jnp.ones((8, 6, 5), dtype)}, one_hot(), KEY)


@pytest.mark.parametrize("name", [name for name in METHODS if selects(name)])
def test_a_mask_of_booleans_mixes_any_dtype_exactly_and_nothing_that_was_not_chosen(name):
    """Places say whose they are; samples that are NaN throughout show where they are chosen."""
    probe = jnp.broadcast_to(jnp.eye(8)[:, None, None, :], (8, 6, 5, 8))
    number = np.broadcast_to(np.arange(8)[:, None, None], (8, 6, 5))
    odd = number % 2 == 1
    batch = {
        "probe": probe,
        "classes": jnp.asarray(number - 1, jnp.int32),  # -1: to be ignored
        "depth": jnp.asarray(1000 * number, jnp.int16),
        "padding": jnp.asarray(odd),
        "phase": jnp.asarray(number * 1j, jnp.complex64),
        "holes": jnp.where(odd, jnp.nan, jnp.asarray(number, jnp.float32)),
    }
    mixed, labels = jitted(name)(batch, one_hot(), KEY)
    whose = np.asarray(mixed["probe"]).argmax(3)
    assert np.any(whose != number)
    expected = jax.tree.map(lambda leaf: np.asarray(leaf)[whose, 0, 0], batch)
    jax.tree.map(np.testing.assert_array_equal, mixed, expected)
    np.testing.assert_allclose(labels, np.asarray(mixed["probe"]).mean((1, 2)), atol=1e-6)
    chex.assert_trees_all_equal_dtypes(mixed, batch)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": images(), "other": images(4)}, r"batch\['other'\] has shape \(4, 6, 5, 8\)"),
        ({"image": images(), "weight": 1.0}, r"batch\['weight'\] has shape \(\)"),
        (images()[:0], r"empty, of shape \(0, 6, 5, 8\)"),
        (images()[:, :0], r"empty, of shape \(8, 0, 5, 8\)"),
        (jnp.float32(1), "only scalars"),
        ([[1.0, 2.0], [3.0, 4.0]], r"only scalars, as nested lists do: .*jnp.asarray\(batch\)"),
        ({}, "no arrays"),
    ],
)
def test_batches_without_a_common_shape_are_refused(method, batch, message):
    with pytest.raises(ValueError, match=message):
        method(batch, one_hot(), KEY)


@pytest.mark.parametrize("ids", [np.array(list("abcdefgh")), list("abcdefgh"), np.arange(8).astype("datetime64[D]")])
def test_what_is_no_number_is_to_be_taken_out(method, ids):
    with pytest.raises(TypeError, match=r"batch\['id'\].* holds .*, which cannot be mixed: take it out of the batch"):
        method({"id": ids, "image": images()}, one_hot(), KEY)


@pytest.mark.parametrize("rng", [None, 0, 1.5, jnp.arange(2), "key"])
def test_what_is_no_key_is_refused(method, rng, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=r"rng must be a key of JAX, such as jax.random.key\(0\), got"):
        method(images(), one_hot(), rng)


def test_many_keys_are_refused_for_one(method, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for keys in (jax.random.split(KEY, 3), jnp.ones((3, 2), jnp.uint32)):
        with pytest.raises(ValueError, match=r"rng has keys of shape \(3,\), where one key was expected"):
            method(images(), one_hot(), keys)


def test_labels_for_another_number_of_samples_are_refused(method):
    with pytest.raises(ValueError, match=r"labels have shape \(7, 7\), but the batch has 8 samples"):
        jax.eval_shape(method, images(), one_hot(7), KEY)


@pytest.mark.parametrize("name", taking("alpha"))
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), np.float32(0), jnp.float32(-2)])
def test_alphas_without_a_law_are_refused(name, alpha):
    with pytest.raises(ValueError, match=f"alpha must be positive and finite, got {alpha}"):
        METHODS[name](images(), one_hot(), KEY, alpha=alpha)


@pytest.mark.parametrize("name", taking("alpha"))
@pytest.mark.parametrize("alpha", ["1", None, True, np.True_, jnp.array(True), np.ones(1), jnp.ones(8)])
def test_alphas_that_are_no_single_number_are_refused(name, alpha, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match="alpha must be a single number, got"):
        METHODS[name](images(), one_hot(), KEY, alpha=alpha)


@pytest.mark.parametrize("name", METHODS)
def test_no_nan_is_made_no_tracer_leaks_and_nothing_is_transferred(name):
    """With all arguments on the device; and no rank is promoted, which raises in all of these tests."""
    (batch, labels), key = everything(), jax.random.key(7)
    fn = jax.jit(functools.partial(METHODS[name]))  # of the same name: compiled once
    with jax.debug_nans(True), jax.checking_leaks(), jax.transfer_guard("disallow"):
        jax.block_until_ready(fn(batch, labels, key))


@pytest.mark.parametrize("name", taking("shared"))
def test_shared_draws_one_ratio_for_the_batch(name):
    guide = {"guide": middle} if "guide" in options(METHODS[name]) else {}  # boxes that are clipped alike

    def shares(shared):
        labels = functools.partial(METHODS[name], shared=shared, **guide)(images(), one_hot(), KEY)[1]
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
