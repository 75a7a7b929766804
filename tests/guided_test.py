"""Masks that look at a guide, each against its definition, place by place."""

import fractions
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmix
from jaxmix import masks, pairings
from jaxmix.types import Guide
from tests.conftest import images, one_hot

KEY = jax.random.key(5)
# Space, and places of a guide: as many, coarser, finer, uneven.
SHAPES = [
    ((9, 14), (9, 14)),
    ((9, 14), (4, 7)),
    ((8, 6), (5, 12)),
    ((11,), (3,)),
    ((1, 12), (1, 12)),
    ((4, 5, 6), (2, 5, 3)),
]


def guided(places, n=30, seed=0):
    """A guide of few values, so that some are equal; the partner's is what counts."""
    rng = np.random.default_rng(seed)
    return Guide(*(jnp.asarray(rng.integers(0, 5, (n, *places)).astype(np.float32)) for _ in range(2)))


def ratio_of(n):
    return np.concatenate([[0, 1], np.random.default_rng(1).uniform(size=n - 2)]).astype(np.float32)


@pytest.mark.parametrize(("space", "places"), SHAPES)
def test_a_salient_box_lies_around_the_partner_s_highest_place(space, places):
    guide, ratio = guided(places), ratio_of(30)
    weight = np.asarray(masks.salient_box(space, jnp.asarray(ratio), KEY, guide=guide))
    rank = sum(length > 1 for length in space)
    for sample, share, partner in zip(weight, ratio, np.asarray(guide.partner), strict=True):
        highest = np.unravel_index(partner.argmax(), places)
        expected = np.zeros(space, bool)
        for place in itertools.product(*map(range, space)):
            for i, cell, length, count in zip(place, highest, space, places, strict=True):
                centre = math.floor((cell + fractions.Fraction(1, 2)) * length / count)
                half = int(length * np.float32(1 - share) ** np.float32(1 / rank)) // 2
                expected[place] |= length > 1 and not centre - half <= i < centre + half
        np.testing.assert_array_equal(sample, expected)
    assert weight.dtype == np.bool_


@pytest.mark.parametrize("cells", [3, 7])
@pytest.mark.parametrize(("space", "places"), SHAPES)
def test_salient_cells_are_the_highest_of_the_partner_as_many_as_the_ratio_says(space, places, cells):
    guide, ratio = guided(places), ratio_of(30)
    weight = np.asarray(masks.salient_cells(space, jnp.asarray(ratio), KEY, guide=guide, cells=cells))
    grid = [min(cells, length, count) for length, count in zip(space, places, strict=True)]
    for sample, share, partner in zip(weight, ratio, np.asarray(guide.partner, np.float64), strict=True):
        found, means = {}, {}
        for cell in itertools.product(*map(range, grid)):
            inside, seen = (
                np.ix_(*(np.flatnonzero(np.arange(m) * k // m == c) for c, k, m in zip(cell, grid, of, strict=True)))
                for of in (space, places)
            )
            assert sample[inside].all() == sample[inside].any()
            found[cell], means[cell] = not sample[inside].any(), partner[seen].mean()
        assert sum(found.values()) == np.rint(np.float32(1 - share) * len(found))
        kept = [mean for cell, mean in means.items() if not found[cell]]
        given = [mean for cell, mean in means.items() if found[cell]]
        assert not kept or not given or min(given) >= max(kept) - 1e-5


@pytest.mark.parametrize("worst", [-np.inf, np.nan])
def test_what_is_not_finite_is_ranked_and_spoils_no_other_cell(worst):
    values = np.full(14, -1, np.float32)
    values[[0, 9]] = worst, 5
    for highest in (5, np.inf):
        values[9] = highest
        guide = Guide(*[jnp.asarray(values)[None]] * 2)
        for ratio, given in ((0.8, [8, 9]), (0.15, range(2, 14))):
            cells = masks.salient_cells((14,), jnp.array([ratio]), KEY, guide=guide)
            np.testing.assert_array_equal(np.flatnonzero(~np.asarray(cells)), given)
        box = masks.salient_box((14,), jnp.array([0.8]), KEY, guide=guide)
        np.testing.assert_array_equal(np.flatnonzero(~np.asarray(box)), [8, 9])


@pytest.mark.parametrize("cells", [2.5, 2.0, "2", None])
def test_numbers_of_cells_that_are_not_whole_are_refused(cells, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    guide = Guide(*[jnp.ones((2, 14))] * 2)
    with pytest.raises(TypeError, match=f"cells must be a whole number known to Python, got {cells!r}"):
        masks.salient_cells((14,), jnp.full(2, 0.5), KEY, guide=guide, cells=cells)


def test_a_coarse_guide_of_a_network_is_taken_as_it_is():
    """6 of 7 x 7 cells, under a guide of 7 x 7: the partner's six highest, and labels by their area."""
    batch = jnp.broadcast_to(jnp.eye(8)[:, None, None, :], (8, 28, 28, 8))
    maps = jax.random.normal(jax.random.key(1), (8, 7, 7))
    mixed, labels = jaxmix.attentivemix(batch, one_hot(), KEY, guide=lambda batch: maps, pairing=pairings.roll)
    for i in range(8):
        partner = np.asarray(maps[(i + 1) % 8])
        given = np.asarray(mixed[i, :, :, (i + 1) % 8]).astype(bool)
        np.testing.assert_array_equal(given, np.kron(partner >= np.sort(partner.ravel())[-6], np.ones((4, 4))))
        np.testing.assert_allclose(labels[i, (i + 1) % 8], 6 / 49, rtol=1e-5)


def test_attentivemix_is_a_composition_of_its_parts():
    ratio = functools.partial(jaxmix.ratios.constant, ratio=0.4)
    mask = functools.partial(masks.salient_cells, cells=3)
    parts = {"pairing": pairings.permutation, "ratio": ratio, "mask": mask, "guide": jaxmix.saliency.spectral_residual}
    composed = jaxmix.mix(images(), one_hot(), KEY, **parts)
    jax.tree.map(
        np.testing.assert_array_equal, jaxmix.attentivemix(images(), one_hot(), KEY, ratio=0.4, cells=3), composed
    )


def test_each_box_is_the_partner_s_own_even_where_the_ratio_is_shared():
    """Bright squares come along with the box of half the area around them."""
    rng = np.random.default_rng(0)
    batch = 0.1 * rng.normal(size=(8, 32, 32, 1)).astype(np.float32)
    for i, sample in enumerate(batch):
        sample[3 * i : 3 * i + 4, 28 - 3 * i : 32 - 3 * i] += 3
    for shared in (False, True):
        mixed, labels = jaxmix.saliencymix(jnp.asarray(batch), one_hot(), KEY, pairing=pairings.roll, shared=shared)
        for i, sample in enumerate(np.asarray(mixed)):
            j = (i + 1) % 8
            if labels[i, j] > 0.3:
                square = np.s_[3 * j + 1 : 3 * j + 3, 29 - 3 * j : 31 - 3 * j]
                np.testing.assert_array_equal(sample[square], batch[j][square])


@pytest.mark.parametrize("mask", [masks.salient_box, masks.salient_cells])
def test_a_mask_without_a_guide_names_the_remedy(mask):
    with pytest.raises(ValueError, match="looks at a guide: give the draw one, such as guide=saliency"):
        mask((4, 4), jnp.ones(2), KEY)
    with pytest.raises(ValueError, match=r"the guide has shape \(2, 4\), where \[n, \*places\] was expected for space"):
        mask((4, 4), jnp.ones(2), KEY, guide=Guide(jnp.ones((2, 4)), jnp.ones((2, 4))))


def test_a_ratio_that_is_constant_is_a_share():
    np.testing.assert_array_equal(jaxmix.ratios.constant(3, KEY, ratio=0.25), np.float32([0.25] * 3))
    with pytest.raises(ValueError, match=r"ratio must lie in \[0, 1\], got 1.5"):
        jaxmix.ratios.constant(3, KEY, ratio=1.5)
