import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxmix import masks
from tests.conftest import MASKS


@functools.cache
def jitted(mask, space):
    return jax.jit(functools.partial(mask, space))


def boxes(space, ratio, n=4000, seed=0):
    weight = jitted(masks.box, space)(np.full(n, ratio, np.float32), jax.random.key(seed))
    assert weight.shape == (n, *space)
    assert weight.dtype == jnp.bool_
    return np.asarray(weight, np.float32)


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


@pytest.mark.parametrize("name", sorted(MASKS.keys() - {"uniform"}))
@pytest.mark.parametrize("space", [(), (1,), (1, 1), (0,), (0, 5), (5, 0)])
def test_masks_that_have_a_place_need_space(name, space):
    with pytest.raises(ValueError, match="this mask needs an axis longer than 1, and none of length 0"):
        MASKS[name](space, jnp.ones(2), jax.random.key(0))


@pytest.mark.parametrize("area_ratio", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("space", [(32, 32), (7, 10), (1, 9), (4, 3, 5)])
def test_a_framed_box_leaves_the_ratio_asked_for_however_it_is_clipped(space, area_ratio):
    ratio = jnp.concatenate([jnp.array([1e-6, 1.0]), jax.random.uniform(jax.random.key(1), (500,))])
    weight = masks.framed_box(space, ratio, jax.random.key(2), area_ratio=area_ratio)
    assert weight.shape == (502, *space)
    assert weight.dtype == jnp.float32
    means = np.asarray(weight, np.float64).mean(tuple(range(1, weight.ndim)))
    np.testing.assert_allclose(means, ratio, atol=1e-6)
    assert weight.min() >= 0
    assert weight.max() <= 1


@pytest.mark.parametrize(("space", "rank"), [((8,), 1), ((9, 6), 2), ((1, 12), 1), ((4, 6, 5), 3)])
def test_a_framed_box_is_the_box_of_the_product_of_the_areas(space, rank):
    """A box of area (1 - .3) * .6 = 1 - .58, under the same key."""
    ratio = jnp.full(300, 0.3)
    framed = masks.framed_box(space, ratio, jax.random.key(3), area_ratio=0.6)
    box = masks.box(space, jnp.full(300, 0.58), jax.random.key(3))
    np.testing.assert_array_equal(framed == 0, ~box)
    assert not np.all(box)
    frame = np.asarray(box).mean(tuple(range(1, box.ndim)))
    np.testing.assert_allclose(framed.max(range(1, box.ndim)), 0.3 / frame, rtol=1e-6)


def test_a_framed_box_takes_one_root_of_the_product():
    """At ratio and area ratio 1/2 the side is exactly half; two roots multiplied would be just below it."""
    weight = masks.framed_box((32, 32), jnp.full(500, 0.5), jax.random.key(0), area_ratio=0.5)
    assert (weight == 0).sum(2).max() == 16


def test_a_framed_box_without_a_box_is_uniform_and_without_a_frame_is_the_partner():
    ratio = jnp.array([0.0, 0.3, 1.0])
    weight = masks.framed_box((6, 4), ratio, jax.random.key(0), area_ratio=0.0)
    np.testing.assert_allclose(weight, np.broadcast_to(np.asarray(ratio)[:, None, None], (3, 6, 4)), atol=1e-7)
    whole = masks.framed_box((4, 4), jnp.zeros(200), jax.random.key(0), area_ratio=1.0)
    np.testing.assert_array_equal(whole, 0)


@pytest.mark.parametrize("area_ratio", [-0.1, 1.5, float("nan")])
def test_area_ratios_beyond_shares_are_refused(area_ratio):
    with pytest.raises(ValueError, match=r"area_ratio must lie in \[0, 1\]"):
        masks.framed_box((4, 4), jnp.ones(2), jax.random.key(0), area_ratio=area_ratio)


@pytest.mark.parametrize("ratio", [0.2, 0.7])
@pytest.mark.parametrize("space", [(8,), (5, 9), (1, 6), (3, 1, 4, 2)])
def test_a_spot_has_the_law_of_its_definition(space, ratio):
    """Every mask is that of one of the centres, in float64, and the centres are uniform."""
    n, rank, least = 1000, sum(length > 1 for length in space), min(ratio, 1 - ratio)
    weight = np.asarray(jitted(masks.gaussian, space)(np.full(n, ratio, np.float32), jax.random.key(4)))
    spot = weight if ratio < 0.5 else 1 - weight
    centres = spot.reshape(n, -1).argmax(1)
    places = np.indices(space).reshape(len(space), -1)
    lengths = np.array(space)[:, None]
    for index, centre in enumerate(places.T):
        squares = ((places - centre[:, None]) / lengths) ** 2
        expected = np.exp(-np.pi * squares.sum(0) / least ** (2 / rank))
        drawn = spot.reshape(n, -1)[centres == index]
        np.testing.assert_allclose(drawn, np.broadcast_to(expected, drawn.shape), atol=1e-6)
    counts = np.bincount(centres, minlength=places.shape[1])
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_share_of_a_spot_has_a_gap_around_one_half():
    """At 32 x 32 no share falls between .4263 and .5737, and their mean is one half for a uniform ratio."""
    ratio = jax.random.uniform(jax.random.key(0), (4000,))
    share = np.asarray(masks.gaussian((32, 32), ratio, jax.random.key(1)).mean((1, 2)))
    assert 0.40 < share[share < 0.5].max() < 0.4264
    assert 0.5736 < share[share > 0.5].min() < 0.60
    assert share.mean() == pytest.approx(0.5, abs=float(4 * share.std() / 4000**0.5))


def test_a_spot_of_no_size_is_its_centre():
    weight = masks.gaussian((4, 4), jnp.array([0.0, 1.0]), jax.random.key(1))
    np.testing.assert_array_equal(weight.sum((1, 2)), [1, 15])
    assert set(np.unique(weight)) == {0, 1}


@pytest.mark.parametrize("space", [(8,), (8, 8), (4, 4, 4)])
def test_a_spot_of_hardly_any_size_has_a_finite_gradient(space):
    gradient = jax.jit(jax.grad(lambda ratio: jnp.sum(masks.gaussian(space, ratio, jax.random.key(0)) ** 2)))
    assert np.all(np.isfinite(gradient(jnp.array([0.0, 1e-30, 1e-20, 1e-14, 1e-11, 1e-7, 0.3]))))


def test_uniform_is_the_ratio_itself():
    ratio = jnp.array([0.0, 0.3, 1.0])
    np.testing.assert_array_equal(masks.uniform((4, 4), ratio, jax.random.key(0)), ratio)


def test_a_box_without_a_frame_makes_no_nan():
    with jax.debug_nans(True):
        weight = masks.framed_box((2, 2), jnp.zeros(50), jax.random.key(0), area_ratio=1.0)
    assert np.all(np.asarray(weight) == 0, axis=(1, 2)).any()


@pytest.mark.parametrize(("space", "cells"), [((5, 8), 2), ((3,), 4), ((1, 7), 4), ((2, 1, 5), 2)])
def test_cells_of_a_grid_are_kept_independently_at_the_ratio(space, cells):
    """Every pattern of cells comes as often as independent draws make it, and is constant in cells of like lengths."""
    n, ratio = 4000, 0.3
    weight = np.asarray(masks.grid(space, jnp.full(n, ratio), jax.random.key(0), cells=cells))
    assert weight.shape == (n, *space)
    assert weight.dtype == np.bool_
    counts = [min(cells, length) for length in space]
    starts = []
    for axis, (length, count) in enumerate(zip(space, counts, strict=True), 1):
        changes = np.diff(weight, axis=axis).any(tuple(a for a in range(weight.ndim) if a != axis))
        starts.append(np.r_[0, 1 + np.flatnonzero(changes)])
        assert len(starts[-1]) == count
        assert np.ptp(np.diff(np.r_[starts[-1], length])) <= 1
    patterns = weight[np.ix_(range(n), *starts)].reshape(n, -1)
    code = patterns @ 2 ** np.arange(patterns.shape[1])
    own = np.array([value.bit_count() for value in range(2 ** patterns.shape[1])])
    law = ratio**own * (1 - ratio) ** (patterns.shape[1] - own)
    assert stats.chisquare(np.bincount(code, minlength=len(law)), n * law).pvalue > 1e-3


def test_a_grid_of_no_or_all_of_the_sample_and_of_no_cells():
    weight = masks.grid((9, 6), jnp.array([0.0, 1.0]), jax.random.key(0))
    np.testing.assert_array_equal(weight.mean((1, 2)), [0, 1])
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        masks.grid((9, 6), jnp.ones(2), jax.random.key(0), cells=0)


def bell(distances, width):
    return np.exp(-(distances**2).sum(0) / 2 / width**2)


def trapezoid(distances, half):
    """Linear from one to nothing between the half of a side and 1.1 of it, along every axis."""
    return np.prod([np.interp(np.abs(distance), [half, 1.1 * half], [1, 0]) for distance in distances], axis=0)


@pytest.mark.parametrize(("mask", "shape"), [(masks.smooth_spot, bell), (masks.smooth_box, trapezoid)])
@pytest.mark.parametrize("ratio", [0.3, 0.8])
@pytest.mark.parametrize("space", [(8,), (5, 9), (1, 6), (3, 1, 4, 2)])
def test_a_smooth_shape_has_the_law_of_its_definition(mask, shape, space, ratio):
    """Every mask is that of a centre, with the width that a solver finds in float64; centres are uniform."""
    n, lengths = 1000, np.array(space)[:, None]
    weight = np.asarray(mask(space, jnp.full(n, ratio, jnp.float32), jax.random.key(4))).reshape(n, -1)
    places = np.indices(space).reshape(len(space), -1)
    expected = []
    for centre in places.T:
        distances = np.where(lengths > 1, (places - centre[:, None] + 0.5) / lengths, 0)
        width = optimize.brentq(lambda s, d=distances: shape(d, s).mean() - 1 + ratio, 0.01, 100)
        expected.append(1 - shape(distances, width))
    distinct, centres = np.unique(np.array(expected).round(6), axis=0, return_counts=True)  # others beyond a border
    distance = np.abs(weight[:, None] - distinct[None]).max(2)
    np.testing.assert_allclose(distance.min(1), 0, atol=1e-5)
    counts = np.bincount(distance.argmin(1), minlength=len(distinct))
    assert len(counts) > 1
    assert stats.chisquare(counts, n * centres / centres.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("mask", "bend"), [(masks.smooth_spot, 1e-2), (masks.smooth_box, 1e-1)])
@pytest.mark.parametrize("space", [(224, 200), (7,), (1, 9), (4, 3, 5)])
def test_a_smooth_shape_leaves_the_ratio_asked_for_and_follows_it(mask, bend, space):
    """The gradient of the mean by the ratio is one, but at the ends, where it is finite, and where an edge bends."""
    ratio = jnp.concatenate([jnp.array([0.0, 1.0, 1e-30, 1e-6]), jax.random.uniform(jax.random.key(1), (60,))])

    def means(ratio):
        return jnp.mean(mask(space, ratio, jax.random.key(2)), range(1, 1 + len(space)))

    share, back = jax.vjp(means, ratio)
    np.testing.assert_allclose(share, ratio, atol=2e-6)
    np.testing.assert_array_equal(share[:2], [0, 1])
    (gradient,) = back(jnp.ones_like(share))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient[4:], 1, atol=bend)
