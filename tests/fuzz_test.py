"""Any input gives what the method promises, or an error of this library that names the cause."""

import functools
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmix
from tests.conftest import HULLS, METHODS, group_size, moves, needs_space, options, selects

pytestmark = pytest.mark.slow

LIBRARY = pathlib.Path(jaxmix.__file__).parent

FUZZED = [name for name, method in METHODS.items() if "alpha" in options(method) or hasattr(jaxmix, name)]

# Samples, space and channels of what each method is compiled for, once.
GRID = [
    ((8, 6, 5, 3), "float32", 4),
    ((6, 3, 7, 1), "uint8", 2),
    ((9, 7, 2), "bfloat16", 3),
    ((4, 2, 3, 2, 2), "float16", 1),
    ((5, 4), "float32", 1),
    ((1, 3, 3, 1), "float32", 1),
]
EMBEDDINGS = [(5, 4, "float32"), (9, 2, "bfloat16"), (4, 6, "float16"), (1, 3, "float32")]


def in_hull(batch, mixed, labels, axes=0):
    """Whether points have the batch's dtype and lie between its extremes over axes, and labels sum to one."""
    assert mixed.dtype == batch.dtype
    before, after = np.asarray(batch, np.float64), np.asarray(mixed, np.float64)
    slack = 0.5 if batch.dtype == jnp.uint8 else float(jnp.finfo(batch.dtype).eps) * np.abs(before).max()
    assert np.all(after >= before.min(axes) - slack)
    assert np.all(after <= before.max(axes) + slack)
    np.testing.assert_allclose(np.asarray(labels).sum(-1), 1, atol=2e-6)


def fuzzed(name, **chosen):
    """The method with those of the options that it has."""
    return functools.partial(METHODS[name], **{key: chosen[key] for key in chosen.keys() & options(METHODS[name])})


def cases():
    """Each method on every other shape that it takes, so that there is none that no method is tried on."""
    for place, name in enumerate(FUZZED):
        fitting = [
            (shape, dtype, k)
            for shape, dtype, k in GRID
            if not (needs_space(name) and len(shape) == 2)
            and ((size := group_size(name, k)) == 1 or (shape[0] % size == 0 and shape[0] >= 2 * size))
        ]
        for shape, dtype, k in fitting[place % 2 :: 2]:
            yield pytest.param(name, shape, dtype, k, id=f"{name}-{shape}-{dtype}")


@pytest.fixture(autouse=True)
def _without_the_checks_of_annotations(monkeypatch):
    """They are those of the tests; users have only the library's own, and of these errors are to come."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with jax._src.config.traceback_filtering("off"):
        yield


@pytest.mark.parametrize(("name", "shape", "dtype", "k"), list(cases()))
def test_what_is_mixed_is_of_the_batch_s_hull_and_labels_are_its_shares(name, shape, dtype, k):
    n, space = shape[0], shape[1:-1]
    probe = jnp.broadcast_to(jnp.eye(n).reshape(n, *(1,) * len(space), n), (n, *space, n))  # whose pixels it is
    fn = jax.jit(lambda alpha, *arguments: fuzzed(name, k=k, alpha=alpha, ratio=alpha / (1 + alpha))(*arguments))

    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
    def check(seed, log_alpha, scale):
        draws = np.random.default_rng(seed)
        noise = scale * (draws.uniform(size=shape) if dtype == "uint8" else draws.normal(size=shape))
        batch = {"x": jnp.asarray(noise.astype(np.float32)).astype(dtype), "probe": probe}
        mixed, labels = fn(np.float32(10**log_alpha), batch, jnp.eye(n), jax.random.key(seed))
        assert mixed["x"].shape == shape
        assert labels.shape == (n, n)
        in_hull(batch["x"], mixed["x"], labels, axes=tuple(range(1 + len(space))) if moves(name) else 0)
        np.testing.assert_allclose(labels, np.asarray(mixed["probe"]).mean(tuple(range(1, 1 + len(space)))), atol=1e-5)

    check()


@pytest.mark.parametrize("name", HULLS)
@pytest.mark.parametrize(("m", "width", "dtype"), EMBEDDINGS)
def test_points_of_a_whole_batch_are_of_its_hull(name, m, width, dtype):
    shape = (m, width) if name == "multimix" else (m, 3, width)
    fn = jax.jit(HULLS[name])

    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**32 - 1), st.floats(-2, 3), st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
    def check(seed, log_alpha, scale):
        batch = jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape)).astype(dtype)
        mixed, labels = fn(batch, jnp.eye(m), jax.random.key(seed), alpha=np.float32(10**log_alpha))
        assert mixed.shape == (5, *shape[1:])
        in_hull(batch, mixed, labels)

    check()


def valid(name, shape, dtype, labels, alpha, k):
    """What the docstrings say."""
    n, size = shape[0] if shape else 0, group_size(name, k)
    guided = "guide" in options(METHODS[name])
    return (
        shape != ()
        and 0 not in (n, *shape[1:-1])
        and not (needs_space(name) and max(shape[1:-1], default=0) < 2)
        and ("alpha" not in options(METHODS[name]) or 1e-36 < alpha < 3e38)
        and ("ratio" not in options(METHODS[name]) or 0 <= alpha <= 1)
        and (dtype in ("float32", "bfloat16", "float16", "uint8") or (selects(name) and size == 1 and not guided))
        and labels in ("one_hot", "none")
        and (size == 1 or (size > 1 and n % size == 0 and n >= 2 * size))
    )


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    name=st.sampled_from(FUZZED),
    shape=st.lists(st.integers(0, 6), max_size=4).map(tuple),
    dtype=st.sampled_from(["float32", "bfloat16", "float16", "uint8", "int32", "bool", "complex64"]),
    labels=st.sampled_from(["one_hot", "none", "integers", "bytes", "fewer", "scalar"]),
    alpha=st.one_of(st.floats(), st.floats(0.1, 10)),
    k=st.integers(-1, 6),
)
def test_what_is_not_promised_is_an_error_of_the_library(name, shape, dtype, labels, alpha, k):
    n = shape[0] if shape else 0
    batch = jax.ShapeDtypeStruct(shape, dtype)
    given_labels = {
        "one_hot": jnp.zeros((n, 3)),
        "none": None,
        "integers": jnp.zeros(n, jnp.int32),
        "bytes": jnp.zeros((n, 3), jnp.uint8),
        "fewer": jnp.zeros((n + 1, 3)),
        "scalar": jnp.float32(1),
    }[labels]
    fn = fuzzed(name, k=k, alpha=alpha, ratio=alpha)
    if valid(name, shape, dtype, labels, alpha, k):
        mixed, _ = jax.eval_shape(fn, batch, given_labels, jax.random.key(0))
        assert (mixed.shape, mixed.dtype) == (shape, dtype)
        return
    with pytest.raises((TypeError, ValueError), match=r".") as caught:
        jax.eval_shape(fn, batch, given_labels, jax.random.key(0))
    assert LIBRARY in pathlib.Path(str(caught.traceback[-1].path)).parents, caught.value
