"""What the compiled program of each method is made of: no more work on the batch than mixing needs."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

import jaxmix
from tests.conftest import METHODS, taking, x64

N, SPACE, CHANNELS = 8, (6, 5), 7
ONE_OF = {"one_of": 2, "one_of_per_sample": 2}  # methods inside, of which each has its partner
MATCHED = {"kmixup": 2, "kmixup_as_released": 2, "kcutmix": 2}  # the two sides of the groups
RESIZED = {"resizemix": 2}  # along either axis

DOUBLES = re.compile(r"tensor<\d+x[\dx]*f64>")  # arrays: ott-jax has scalars of its own


def program(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


def batch(dtype=jnp.float32):
    return jnp.zeros((N, *SPACE, CHANNELS), dtype), jnp.eye(N, dtype=jnp.float32), jax.random.key(0)


def gathers_of_the_batch(text):
    """Gathers whose result has as many elements as the batch."""
    shapes = re.findall(r"= \w+\[([\d,]+)\]\S* gather\(", text)
    size = N * SPACE[0] * SPACE[1] * CHANNELS
    return sum(functools.reduce(lambda a, b: a * int(b), shape.split(","), 1) == size for shape in shapes)


@pytest.mark.parametrize("name", [*taking("shared"), "kcutmix", "kmixup_as_released", "one_of", "one_of_per_sample"])
def test_the_batch_is_gathered_for_the_partner_only(name):
    found = gathers_of_the_batch(program(METHODS[name], *batch(jnp.uint8)))
    assert found == ONE_OF.get(name, 1) + MATCHED.get(name, 0) + RESIZED.get(name, 0)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_double_or_leaves_the_device(name):
    with x64():
        text = jax.jit(METHODS[name]).lower(*batch()).as_text()
    assert "xf32>" in text
    assert not DOUBLES.search(text)
    assert not re.search("callback|infeed|outfeed|send-done|recv-done", text)


def test_a_second_gather_a_double_and_a_callback_would_be_seen():
    def twice(x, y, rng):
        mixed, labels = jaxmix.mixup(x, y, rng)
        return mixed + x[jnp.argsort(labels[:, 0])], labels

    def double(x, y, rng):
        del rng
        return x * jnp.float64(2), y

    def called_back(x, y, rng):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(x.shape, x.dtype), x), y

    assert gathers_of_the_batch(program(twice, *batch())) == 2
    with x64(), jax.numpy_dtype_promotion("standard"):
        assert DOUBLES.search(jax.jit(double).lower(*batch()).as_text())
    assert "callback" in jax.jit(called_back).lower(*batch()).as_text()


@pytest.mark.parametrize("name", ["cutmix", "kmixup"])
def test_a_result_may_be_written_over_the_one_before(name):
    """The README's recipe: the scratch that is handed in is where the result lies."""

    @functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
    def over(scratch, *arguments):
        del scratch
        return METHODS[name](*arguments)

    text = over.lower(batch()[:2], *batch()).compile().as_text()
    assert re.search(r"input_output_alias=\{.*\{0\}: \(0.*\{1\}: \(1", text)
