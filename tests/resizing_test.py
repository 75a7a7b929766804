import fractions
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix import pairings, resizing
from tests.conftest import images, one_hot

KEY = jax.random.key(5)


def patches(space, scale, n=1, rng=KEY):
    """Where each patch starts, and how long it is, along each axis: [n, axes] each, as drawn."""
    sides, _ = resizing._patches(space, scale, n, rng)
    return (np.stack([np.asarray(of(side)) for side in sides], 1) for of in (lambda s: s.argmax(1), lambda s: s.sum(1)))


def pasted_by_numpy(leaf, partner, starts, sizes):
    """The definition, one place at a time, in fractions."""
    leaf = np.asarray(leaf)
    mixed, space = leaf.copy(), leaf.shape[1 : 1 + starts.shape[1]]
    for i, sample in enumerate(mixed):
        start, size = starts[i], sizes[i]
        for place in itertools.product(*map(range, size.tolist())):
            axes = zip(place, space, size.tolist(), strict=True)
            source = (math.floor((p + fractions.Fraction(1, 2)) * length / s) for p, length, s in axes)
            sample[tuple(start + place)] = leaf[(partner[i], *source)]
    return mixed


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("space", [(9,), (7, 10), (1, 9), (4, 3, 5)], ids=["sequence", "image", "flat_image", "video"])
def test_resizemix_is_the_definition_in_any_rank_and_dtype(space, shared):
    n, rng = 8, np.random.default_rng(0)
    floats = rng.normal(size=(n, *space, 2)).astype(np.float32)
    floats[3, ..., 0] = np.nan
    batch = {
        "floats": jnp.asarray(floats),
        "halves": jnp.asarray(floats).astype(jnp.bfloat16),
        "pixels": jnp.asarray(rng.integers(0, 256, (n, *space, 3)).astype(np.uint8)),
        "classes": jnp.asarray(rng.integers(-1, 9, (n, *space)).astype(np.int32)),
        "padding": jnp.asarray(rng.integers(0, 2, (n, *space)).astype(bool)),
        "phase": jnp.asarray(floats[..., :1] * 1j, jnp.complex64),
    }
    mixed, labels = jaxmix.resizemix(batch, one_hot(), KEY, pairing=pairings.roll, shared=shared)
    starts, sizes = patches(space, (0.1, 0.8), 1 if shared else n, jax.random.split(KEY)[1])
    starts, sizes = (np.broadcast_to(of, (n, len(space))) for of in (starts, sizes))
    partner = (np.arange(n) + 1) % n
    for name, leaf in batch.items():
        assert np.asarray(mixed[name]).tobytes() == pasted_by_numpy(leaf, partner, starts, sizes).tobytes(), name
    area = sizes.prod(1) / np.prod(space)
    np.testing.assert_allclose(labels, (1 - area)[:, None] * np.eye(n) + area[:, None] * np.eye(n)[partner], atol=1e-6)
    assert len({*area}) > 1 or shared


def test_sides_are_a_uniform_share_and_places_uniform_among_those_that_fit():
    space, scale = (7, 10), (0.2, 0.9)
    starts, sizes = patches(space, scale, 20_000)
    borders = np.arange(0.5, 10)
    of_width = np.diff(np.clip(borders / 10, *scale), prepend=scale[0], append=scale[1]) / (scale[1] - scale[0])
    counts = np.bincount(sizes[:, 1], minlength=11)
    assert not counts[of_width == 0].any()
    assert stats.chisquare(counts[of_width > 0], 20_000 * of_width[of_width > 0]).pvalue > 1e-3
    for axis, length in enumerate(space):
        for size in np.unique(sizes[:, axis]):
            of_size = np.bincount(starts[sizes[:, axis] == size, axis], minlength=length - size + 1)
            assert len(of_size) == length - size + 1
            assert len(of_size) == 1 or stats.chisquare(of_size).pvalue > 1e-4
    square = sizes[sizes[:, 0] == 4]  # 4 of 7 is .5 to .64, so 5 or 6 of 10
    assert {*square[:, 1]} == {5, 6}
    assert abs(stats.spearmanr(starts[sizes[:, 0] == 4]).statistic) < 0.05


@pytest.mark.parametrize("length", [1, 2, 7, 224, 160_000, 1_000_003])
def test_places_are_exact_integers_also_of_long_sequences(length):
    """Whose products overflow int32."""
    for size in sorted({1, max(1, length // 3), max(1, length - 1), length}):
        place = np.arange(size)
        found = resizing._source(jnp.asarray(place, jnp.int32)[None], jnp.full((1, 1), size, jnp.int32), length)
        np.testing.assert_array_equal(found[0], (2 * place + 1) * length // (2 * size))


def test_a_patch_of_the_whole_side_is_the_partner_and_of_no_side_one_place():
    whole, labels = jaxmix.resizemix(images(), one_hot(), KEY, scale=(1, 1), pairing=pairings.roll)
    np.testing.assert_array_equal(whole, np.roll(images(), -1, 0))
    np.testing.assert_array_equal(labels, np.roll(one_hot(), -1, 0))
    least = jaxmix.resizemix(images(), one_hot(), KEY, scale=(0, 0), pairing=pairings.roll)[1]
    np.testing.assert_allclose(np.diagonal(least), 29 / 30, rtol=1e-6)


def test_a_sample_that_meets_itself_is_pasted_into_itself():
    mixed, labels = jaxmix.resizemix(images(1), one_hot(1), KEY, scale=(0.5, 0.5))
    assert np.mean(np.asarray(mixed) != np.asarray(images(1))) > 0.05
    np.testing.assert_array_equal(labels, [[1]])


def test_partners_are_of_the_labels_that_a_pairing_looks_at():
    labels = jnp.eye(2)[jnp.arange(8) % 2]
    mixed, targets = jaxmix.resizemix(images(), labels, KEY, pairing=pairings.same_class)
    assert np.any(np.asarray(mixed) != np.asarray(images()))
    np.testing.assert_allclose(targets, labels, atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((0.8, 0.1), r"scale=\(0.8, 0.1\) is an empty range: give the lower end first"),
        ((-0.1, 0.5), r"the low end of scale must lie in \[0, 1\], got -0.1"),
        ((0.1, 1.5), r"the high end of scale must lie in \[0, 1\], got 1.5"),
        ((0.1, float("nan")), r"the high end of scale must lie in \[0, 1\], got nan"),
        ((0.1,), r"scale must be a range \(low, high\), got \(0.1,\)"),
        (0.5, r"scale must be a range \(low, high\), got 0.5"),
    ],
)
def test_scales_that_are_no_range_are_refused(scale, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        jaxmix.resizemix(images(), one_hot(), KEY, scale=scale)


def test_a_traced_scale_is_taken():
    def shares(high):
        return jaxmix.resizemix(images(), one_hot(), KEY, scale=(0.5, high), pairing=pairings.roll)[1]

    np.testing.assert_array_equal(jax.jit(shares)(0.8), functools.partial(shares, 0.8)())
