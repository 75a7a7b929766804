"""What mixing penalises, against tables, enumeration and the expansion that it stands in."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from jaxmix import coefficients, masks

HALF = functools.partial(masks.framed_box, area_ratio=0.5)
DISTANCES = [0, 2, 4, 8, 12]
# a between the places (16, 16) and (16, 16 - d) of 32 x 32, alpha = 1, rounded to four digits.
TABLE = {
    ("cutmix", "paper"): (masks.box, [0.3013, 0.2699, 0.2386, 0.1772, 0.1199]),
    ("hmix", "paper"): (HALF, [0.2321, 0.2215, 0.2110, 0.1920, 0.1748]),
    ("gmix", "paper"): (masks.gaussian, [0.2215, 0.2188, 0.2118, 0.1919, 0.1744]),
    ("cutmix", "exact"): (masks.box, [0.3513, 0.3124, 0.2794, 0.2272, 0.1857]),
    ("hmix", "exact"): (HALF, [0.2060, 0.1975, 0.1891, 0.1742, 0.1639]),
    ("gmix", "exact"): (masks.gaussian, [0.1749, 0.1722, 0.1655, 0.1460, 0.1278]),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c[1] == "exact" else pytest.mark.slow) for c in TABLE], ids="-".join
)
def test_profiles_have_the_tabulated_values(case):
    mask, expected = TABLE[case]
    drawn = coefficients.profile(mask, (32, 32), jax.random.key(0), anchor=(16, 16), form=case[1], num_draws=2**15)
    row, error = (np.asarray(x)[16, [16 - d for d in DISTANCES]] for x in drawn[:2])
    assert error.max() < 0.003
    assert np.all(np.abs(row - expected) < 4 * error + 0.00005)


@pytest.mark.parametrize("form", ["paper", "exact"])
def test_mixup_ties_all_places_alike_in_both_forms(form):
    """By alpha / (2 (2 alpha + 1)): .1667 at alpha = 1."""
    alpha = np.array([0.1, 1.0, 4.0], np.float32)
    draw = functools.partial(coefficients.profile, masks.uniform, (3,), anchor=(1,), form=form, num_draws=2**18)
    drawn = jax.vmap(lambda alpha: draw(jax.random.key(1), alpha=alpha))(alpha)
    for x in drawn:
        np.testing.assert_array_equal(x, np.broadcast_to(x[:, :1], (3, 3)))
    assert max(drawn.quadratic_error.max(), drawn.linear_error.max()) < 1e-3
    expected = (alpha / (2 * alpha + 1))[:, None]
    assert np.all(np.abs(drawn.quadratic - expected / 2) < 4 * drawn.quadratic_error)
    assert np.all(np.abs(drawn.linear - expected) < 4 * drawn.linear_error)


def box(centre, ratio, space):
    """Own weights [ratios, *space] of CutMix, for a centre."""
    inside = 1.0
    for axis, (place, middle) in enumerate(zip(np.indices(space), centre, strict=True)):
        half = np.floor(space[axis] * (1 - ratio) ** (1 / len(space))) // 2
        half = half.reshape(-1, *(1 for _ in space))
        inside = inside * ((place >= middle - half) & (place < middle + half))
    return 1 - inside


def gaussian(centre, ratio, space):
    """Own weights of GMix."""
    ratio = ratio.reshape(-1, *(1 for _ in space))
    squares = sum(((p - c) / n) ** 2 for p, c, n in zip(np.indices(space), centre, space, strict=True))
    spot = np.exp(-np.pi * squares / np.minimum(ratio, 1 - ratio) ** (2 / len(space)))
    return np.where(ratio < 0.5, spot, 1 - spot)


LINE, PLANE = ((5,), (1,), 0.5), ((4, 3), (1, 2), 2.0)  # space, anchor, alpha


@pytest.mark.parametrize(
    ("mask", "definition", "form", "case"),
    [
        (masks.box, box, "paper", LINE),
        (masks.box, box, "exact", PLANE),
        (masks.gaussian, gaussian, "exact", LINE),
    ],
)
def test_profiles_are_the_means_over_all_centres_and_ratios(mask, definition, form, case):
    """Ratios at the middles of 4,000 equally likely intervals, in float64."""
    space, anchor, alpha = case
    law = stats.beta(alpha + (form == "paper"), alpha)
    ratio = law.ppf((np.arange(4000) + 0.5) / 4000)
    own = np.concatenate([definition(c, ratio, space) for c in itertools.product(*map(range, space))])
    flat = own.reshape(len(own), -1)
    at_anchor = own[(slice(None), *anchor)][:, None]
    if form == "paper":
        quadratic = ((1 - at_anchor) * (1 - flat)).mean(0)
        linear = np.full(flat.shape[1], alpha / (2 * alpha + 1))
    else:
        share = flat.mean(1, keepdims=True)
        quadratic = (share * (1 - at_anchor) * (1 - flat) + (1 - share) * at_anchor * flat).mean(0)
        linear = (share * (1 - flat) + (1 - share) * flat).mean(0)
    drawn = coefficients.profile(mask, space, jax.random.key(2), anchor=anchor, alpha=alpha, form=form, num_draws=2**17)
    assert max(drawn.quadratic_error.max(), drawn.linear_error.max()) < 0.002
    assert np.all(np.abs(drawn.quadratic - quadratic.reshape(space)) < 4 * drawn.quadratic_error + 2e-4)
    assert np.all(np.abs(drawn.linear - linear.reshape(space)) < 4 * drawn.linear_error + 2e-4)


FIXED = np.array([1.0, 1.0, 0.0])


def fixed(space, ratio, rng):
    """A user's mask: it cuts the last place out, whatever the ratio."""
    return jnp.broadcast_to(jnp.asarray(FIXED, jnp.float32)[None], (ratio.shape[0], *space))


@pytest.fixture(scope="module")
def fixed_profiles():
    """a [3, 3] and b [3] of that mask by form; its first two places are alike."""

    def both(form):
        first, last = (
            coefficients.profile(fixed, (3,), jax.random.key(0), anchor=(j,), form=form, num_draws=2**12)
            for j in (0, 2)
        )
        assert max(first.quadratic_error.max(), last.quadratic_error.max()) < 1e-8
        return np.array([first.quadratic, first.quadratic, last.quadratic], np.float64), np.array(first.linear)

    return {form: both(form) for form in ("paper", "exact")}


def test_a_mask_of_one_s_own_has_the_coefficients_of_its_definition(fixed_profiles):
    (paper, constant), (exact, linear) = fixed_profiles["paper"], fixed_profiles["exact"]
    np.testing.assert_allclose(paper, np.outer(1 - FIXED, 1 - FIXED), atol=1e-6)
    np.testing.assert_allclose(constant, np.full(3, 1 / 3), atol=0.02)
    np.testing.assert_allclose(exact, [[1 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 0], [0, 0, 2 / 3]], atol=1e-6)
    np.testing.assert_allclose(linear, [1 / 3, 1 / 3, 2 / 3], atol=1e-6)


def expansion_errors(quadratic, linear):
    """How far the expansion is from the mean loss of all pairs, for a logistic model halved twice."""
    rng = np.random.default_rng(0)
    inputs, labels, theta = rng.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0.0]), np.array([0.2, -0.3, 0.25])
    inputs -= inputs.mean(0)
    covariance = inputs.T @ inputs / len(inputs)
    share = FIXED.mean()
    mixed = FIXED * inputs[:, None] + (1 - FIXED) * inputs
    mixed_labels = share * labels[:, None] + (1 - share) * labels
    errors = []
    for weight in (theta, theta / 2, theta / 4):
        f = mixed @ weight + 1
        true = np.mean(np.log1p(np.exp(f)) - mixed_labels * f)
        f = inputs @ weight + 1
        p = 1 / (1 + np.exp(-f))
        first = -(p - labels) * ((linear * inputs) @ weight)
        moments = inputs[:, :, None] * inputs[:, None] + covariance
        second = p * (1 - p) / 2 * np.einsum("jk,j,k,ijk->i", quadratic, weight, weight, moments)
        errors.append(true - np.mean(np.log1p(np.exp(f)) - labels * f + first + second))
    return np.array(errors)


def test_the_expansion_holds_to_second_order_in_the_exact_form_and_not_in_the_paper_s(fixed_profiles):
    """Halving the model divides an error of order m by 2^m; the third order cancels here, over swapped pairs."""
    (paper, constant), (exact, linear) = fixed_profiles["paper"], fixed_profiles["exact"]
    for quadratic, b, order in ((exact, linear, 4), (paper, linear, 2), (exact, constant, 1), (paper, constant, 1)):
        errors = expansion_errors(quadratic, b)
        np.testing.assert_allclose(errors[:-1] / errors[1:], np.full(2, 2.0**order), rtol=0.25)


def test_the_spread_over_keys_is_the_standard_error(monkeypatch):
    """Chunks of two draws: half of the squared deviations are between chunks."""
    monkeypatch.setattr(coefficients, "CHUNK_NUMBERS", 2)
    draw = functools.partial(coefficients.profile, masks.uniform, (1,), anchor=(0,), num_draws=200)
    drawn = jax.vmap(draw)(jax.random.split(jax.random.key(3), 2000))
    for mean, error in ((drawn.quadratic, drawn.quadratic_error), (drawn.linear, drawn.linear_error)):
        assert error.min() > 0.01
        assert mean.std(ddof=1) == pytest.approx(float((error**2).mean() ** 0.5), rel=0.06)


def test_a_weight_per_sample_is_one_at_every_place():
    def everywhere(space, ratio, rng):
        return jnp.broadcast_to(jnp.expand_dims(ratio, range(1, 1 + len(space))), (ratio.shape[0], *space))

    profiles = [
        coefficients.profile(mask, (2, 3), jax.random.key(5), anchor=(1, 0), form="exact", num_draws=1000)
        for mask in (masks.uniform, everywhere)
    ]
    for one, other in zip(*profiles, strict=True):
        assert one.shape == (2, 3)
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_mask_s_draws_are_independent_of_the_ratio():
    """At weights U lambda, with U uniform, a = 1 - 2 E[U] E[lambda] + E[U^2] E[lambda^2] = 1/2."""

    def scaled(space, ratio, rng):
        return ratio * jax.random.uniform(rng, ratio.shape)

    drawn = coefficients.profile(scaled, (1,), jax.random.key(8), anchor=(0,), num_draws=2**18)
    assert drawn.quadratic_error < 0.001
    assert abs(drawn.quadratic - 0.5) < 4 * drawn.quadratic_error


def test_jit_and_a_traced_alpha_change_nothing():
    def draw(alpha):
        return coefficients.profile(masks.uniform, (4,), jax.random.key(6), anchor=(1,), alpha=alpha, num_draws=1000)

    for one, other in zip(draw(0.5), jax.jit(draw)(jnp.float32(0.5)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_memory_does_not_grow_with_the_draws():
    """All masks at once would fill 64 GiB."""
    draw = functools.partial(coefficients.profile, masks.box, (32, 32), anchor=(8, 8), num_draws=2**24)
    memory = jax.jit(draw).lower(jax.random.key(0)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**24


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"space": ()}, ValueError, r"space \(\) has no places: give the lengths"),
        ({"space": (4, 0)}, ValueError, r"space \(4, 0\) has no places"),
        ({"anchor": (1,)}, ValueError, r"anchor \(1,\) must have one index per axis of space \(4, 3\)"),
        ({"anchor": (4, 0)}, ValueError, r"anchor \(4, 0\) lies outside of space \(4, 3\): count places from 0"),
        ({"anchor": (0, -1)}, ValueError, r"anchor \(0, -1\) lies outside of space"),
        ({"anchor": 1}, ValueError, r"anchor 1 must have one index per axis of space \(4, 3\)"),
        ({"anchor": (0.5, 1)}, TypeError, r"must be integers known to Python, got \(0.5, 1\)"),
        ({"form": "papers"}, ValueError, "form must be 'paper' or 'exact', got 'papers'"),
        ({"num_draws": 1}, ValueError, "num_draws must be at least 2, .* got 1"),
        ({"alpha": 0.0}, ValueError, "alpha must be positive and finite, got 0.0"),
        ({"mask": lambda space, ratio, rng: ratio[:, None]}, ValueError, r"the mask returned shape .* was expected"),
    ],
)
def test_mistakes_are_refused_with_the_remedy(changes, error, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    options = {"mask": masks.box, "space": (4, 3), "anchor": (1, 2)} | changes
    with pytest.raises(error, match=message):
        coefficients.profile(options.pop("mask"), options.pop("space"), jax.random.key(0), **options)
