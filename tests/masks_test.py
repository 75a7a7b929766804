import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmix import masks


def boxes(space, ratio, n=4000, seed=0):
    weight = masks.box(space, jnp.full(n, ratio, jnp.float32), jax.random.key(seed))
    assert weight.shape == (n, *space)
    assert weight.dtype == jnp.float32
    return np.asarray(weight)


def interval_law(length, ratio, rank):
    """Probability of every clipped interval, by going through all centres."""
    if length == 1:
        return {(0, 1): 1.0}
    half = int(np.floor(length * (1 - ratio) ** (1 / rank))) // 2
    law = collections.Counter()
    for centre in range(length):
        law[max(centre - half, 0), min(centre + half, length)] += 1 / length
    return law


@pytest.mark.parametrize(
    ("space", "ratio"),
    [((8,), 0.5), ((6, 9), 0.75), ((9, 4), 0.19), ((1, 12), 0.6), ((4, 1, 5), 0.5), ((4, 6, 5), 0.51)],
)
def test_box_has_the_law_of_its_definition(space, ratio):
    """Every box is one the definition allows, and they come as often as uniform centres make them."""
    rank = sum(length > 1 for length in space)
    laws = [interval_law(length, ratio, rank) for length in space]
    expected, of_weight = collections.Counter(), {}
    for intervals in itertools.product(*laws):
        weight = np.ones(space, np.float32)
        weight[tuple(slice(*interval) for interval in intervals)] = 0
        expected[weight.tobytes()] += np.prod([law[i] for law, i in zip(laws, intervals, strict=True)])
        of_weight[weight.tobytes()] = weight
    counts = collections.Counter(weight.tobytes() for weight in boxes(space, ratio))
    assert set(counts) <= set(of_weight)
    observed = [counts[key] for key in expected]
    assert stats.chisquare(observed, 4000 * np.array(list(expected.values()))).pvalue > 1e-3


@pytest.mark.parametrize(("length", "ratio", "side"), [(32, 0.75, 16), (32, 0.0, 32), (32, 1.0, 0), (7, 0.0, 6)])
def test_box_sides_are_the_root_of_the_area_rounded_down_to_even(length, ratio, side):
    widest = (1 - boxes((length, length), ratio, n=2000)).max(2).sum(1).max()
    assert widest == side


def test_share_kept_is_at_least_the_ratio_asked_for():
    ratio = jax.random.uniform(jax.random.key(1), (500,))
    share = masks.box((9, 14), ratio, jax.random.key(2)).mean((1, 2))
    assert np.all(share >= ratio - 1e-6)
    assert np.any(share > ratio + 0.1)


def test_boxes_of_a_batch_differ_in_place():
    assert len(np.unique(boxes((8, 8), 0.75, n=50).reshape(50, -1), axis=0)) > 10


@pytest.mark.parametrize("space", [(), (1,), (1, 1)])
def test_box_needs_space(space):
    with pytest.raises(ValueError, match="a box needs an axis longer than 1"):
        masks.box(space, jnp.ones(2), jax.random.key(0))


def test_uniform_is_the_ratio_itself():
    ratio = jnp.array([0.0, 0.3, 1.0])
    np.testing.assert_array_equal(masks.uniform((4, 4), ratio, jax.random.key(0)), ratio)
