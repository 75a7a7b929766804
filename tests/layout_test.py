"""How rows are gathered: the way of TPUs, taken on CPUs."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix import layout
from jaxmix.pairings import transporting
from tests.conftest import HULLS, METHODS, images, one_hot, quickly

TENSOR = re.compile(r"tensor<([^>]*)>")
KEY = jax.random.key(5)
INDEX = jnp.array([3, 0, 0, -1, 2, 5], jnp.int32)


@pytest.fixture
def as_on_tpus(monkeypatch):
    """What is lowered for TPUs, on CPUs."""
    jax.clear_caches()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, tpu, default: tpu(*arguments))
    yield
    jax.clear_caches()


def bits(dtype, shape):
    """Numbers of any bits, NaNs, infinities and denormals among them."""
    draws = np.random.default_rng(0).integers(0, 256, (*shape, jnp.dtype(dtype).itemsize), dtype=np.uint8)
    return draws[..., 0] > 127 if dtype == "bool" else draws.view(jnp.dtype(dtype)).reshape(shape)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn", "uint8", "int8", "int16", "uint16", "int32", "bool"]
)
def test_a_product_is_the_gather_to_the_last_bit_whatever_the_bits_mean(dtype):
    x = bits(dtype, (6, 5, 4))
    product = np.asarray(jax.jit(layout._product)(jnp.asarray(x), INDEX))
    assert product.dtype == x.dtype
    assert product.tobytes() == x[np.asarray(INDEX)].tobytes()


def test_sixteen_bits_are_two_bfloat16_and_eight_are_one():
    """So that products at the precision "high" of TPUs, of two bfloat16 each, are exact."""
    whole = np.arange(2**16, dtype=np.float32)
    high = whole.astype(jnp.bfloat16).astype(np.float32)
    low = (whole - high).astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(high + low, whole)
    np.testing.assert_array_equal(high[:257], whole[:257])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_derivatives_are_the_gather_s(dtype):
    x, cotangent = (jax.random.normal(key, (6, 7)).astype(dtype) for key in jax.random.split(KEY))
    expected, transpose = jax.vjp(lambda x: x[INDEX], x)
    found, pull = jax.vjp(lambda x: layout._product_of_floats(x, INDEX), x)
    np.testing.assert_array_equal(found, expected)
    tolerance = 1e-2 if dtype == "bfloat16" else 1e-6
    chex.assert_trees_all_close(pull(cotangent), transpose(cotangent), rtol=tolerance)
    chex.assert_trees_all_equal(
        jax.jvp(lambda x: layout._product_of_floats(x, INDEX), (x,), (cotangent,)), (expected, cotangent[INDEX])
    )


def test_distances_out_of_one_gram_matrix_are_those_of_the_groups():
    """Of images whose mean is far larger than their differences."""
    measured = 1e3 + jax.random.normal(KEY, (24, 6, 5, 3))
    anchors, candidates = jax.random.permutation(KEY, jnp.arange(24)).reshape(6, 4), jnp.arange(24).reshape(6, 4)
    points = np.asarray(measured, np.float64)
    expected = ((points[anchors][:, :, None] - points[candidates][:, None]) ** 2).sum((3, 4, 5))
    for function in (transporting._distances_of_all, transporting._distances_of_groups):
        found = jax.jit(function)(measured, anchors, candidates)
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("shape", "count", "chooses"),
    [
        ((8192, 1), 8192, True),
        ((8193, 1), 8192, False),
        ((1024, 128), 1024, True),
        ((1025, 128), 1024, False),
        ((50_000, 3), 128, True),
    ],
)
def test_where_a_product_loses_the_gather_stays(shape, count, chooses):
    shapes = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct((count,), "int32")
    assert ("platform_index" in str(jax.make_jaxpr(layout.rows)(*shapes))) is chooses


# These take rows in every way; what the others lower for TPUs is looked at below.
@pytest.mark.parametrize("name", quickly("cutmix", "kmixup", "kmixup_as_released", *HULLS, of=METHODS | HULLS))
def test_methods_are_the_same_as_on_tpus(name, as_on_tpus):
    method = (METHODS | HULLS)[name]
    shape = {"multimix": (8, 6), "dense_multimix": (8, 4, 6)}.get(name, (8, 6, 5, 8))
    batch = images().reshape(-1)[: np.prod(shape)].reshape(shape)
    found = jax.jit(lambda *arguments: method(*arguments))(batch, one_hot(), KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "rows", lambda x, index: x[index])
        expected = jax.jit(lambda *arguments: method(*arguments))(batch, one_hot(), KEY)
    chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "kmixup", "resizemix"])
def test_what_is_not_finite_reaches_its_partner_and_nobody_else(name, as_on_tpus):
    batch = images().at[3, 0, 0, 0].set(jnp.nan)
    given = {"features": lambda batch: batch[:, 1]} if name == "kmixup" else {}
    method = functools.partial(METHODS[name], **given)
    mixed, labels = jax.jit(method)(batch, one_hot(), KEY)
    touched = np.asarray(labels[:, 3]) > 0
    assert not np.isnan(np.asarray(mixed))[~touched].any()
    assert np.isnan(np.asarray(mixed))[:, 0, 0, 0].any()
    assert np.isnan(np.asarray(mixed)).sum() <= 2


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="before, the branches of all platforms are lowered")
@pytest.mark.parametrize("name", [*METHODS, *HULLS])
def test_no_gather_of_the_batch_is_lowered_for_tpus(name):
    """Nor of anything with its pixels."""
    method = (METHODS | HULLS)[name]
    shape = {"multimix": (8, 640), "dense_multimix": (8, 4, 640)}.get(name, (8, 16, 10, 4))
    batch = {dtype: jax.ShapeDtypeStruct(shape, dtype) for dtype in ("float32", "uint8")}
    arguments = batch["float32"] if name in HULLS else batch, one_hot(), KEY
    lowered = jax.jit(method).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    for line in lowered.splitlines():
        if "stablehlo.gather" in line or "stablehlo.scatter" in line:
            sizes = [int(np.prod([int(d) for d in found.split("x")[:-1]] or [1])) for found in TENSOR.findall(line)]
            assert max(sizes, default=0) < 8 * 640, line
