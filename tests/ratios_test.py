import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxmix import ratios

ALPHAS = [0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 8.0, 32.0]


@functools.cache
def draws(alpha, n=100_000):
    sampler = jax.jit(lambda rng, alpha: ratios.beta(n, rng, alpha=alpha))
    return np.asarray(sampler(jax.random.key(5), alpha), np.float64)


def law_of_lower_half(alpha):
    """Distribution of a Beta(alpha, alpha) below 1/2, where float32 flushes what is below its normal numbers to 0."""
    smallest = np.finfo(np.float32).tiny
    return lambda x: 2 * stats.beta(alpha, alpha).cdf(np.maximum(x, smallest))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_beta_has_the_law_of_beta(alpha):
    """Kolmogorov-Smirnov on the lower half; folded, since near 1 float32 is too coarse to test."""
    x = draws(jnp.float32(alpha).item())
    assert x.min() >= 0
    assert x.max() <= 1
    folded = np.minimum(x, 1 - x)[x < 0.5]
    resolved = np.maximum(folded, np.finfo(np.float32).tiny)
    resolved = resolved[resolved > np.finfo(np.float32).tiny]
    floor = law_of_lower_half(alpha)(0.0)
    assert stats.kstest(resolved, lambda t: (law_of_lower_half(alpha)(t) - floor) / (1 - floor)).pvalue > 1e-3
    assert abs(len(resolved) / len(folded) - (1 - floor)) < 5e-3


@pytest.mark.parametrize("alpha", ALPHAS)
def test_beta_is_symmetric(alpha):
    x = draws(jnp.float32(alpha).item())
    assert abs((x < 0.5).mean() - 0.5) < 0.01
    folded = np.minimum(x, 1 - x)
    above = np.maximum(folded[x > 0.5], 1e-6)  # what 1 - x still resolves
    assert stats.ks_2samp(np.maximum(folded[x < 0.5], 1e-6), above).statistic < 0.015


def test_a_wrong_law_would_be_noticed():
    x = draws(jnp.float32(0.4).item())
    assert stats.kstest(np.minimum(x, 1 - x)[x < 0.5], law_of_lower_half(0.44)).pvalue < 1e-6


def test_alpha_one_is_a_plain_uniform_draw():
    rng = jax.random.key(0)
    np.testing.assert_array_equal(ratios.beta(100, rng, alpha=1.0), jax.random.uniform(rng, (100,)))
    np.testing.assert_array_equal(ratios.beta(100, rng, alpha=1), jax.random.uniform(rng, (100,)))


def test_draws_are_float32_whatever_alpha_is():
    for alpha in (1, 1.0, 0.3, np.float64(0.3), np.float32(0.3), jnp.bfloat16(0.3), jnp.float16(2)):
        assert ratios.beta(4, jax.random.key(0), alpha=alpha).dtype == jnp.float32


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1e4])
def test_extreme_alphas_stay_finite(alpha):
    x = draws(jnp.float32(alpha).item())
    assert np.all(np.isfinite(x))
    assert abs(x.mean() - 0.5) < 0.01


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1, 0.3, 1.0, 4.0])
def test_gradient_in_alpha_is_that_of_the_law(alpha):
    """E[x (1 - x)] = alpha / (2 (2 alpha + 1)), differentiated through the draws."""

    def spread(alpha):
        x = ratios.beta(200_000, jax.random.key(1), alpha=alpha)
        return jnp.mean(x * (1 - x))

    np.testing.assert_allclose(jax.grad(spread)(alpha), 0.5 / (2 * alpha + 1) ** 2, rtol=0.04)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_mean_squared_share_is_its_integral(alpha):
    density = stats.beta(alpha, alpha).pdf
    integral = 2 * integrate.quad(lambda x: x**2 * density(x), 0, 0.5)[0]
    assert ratios.mean_squared_share(alpha) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 2.0])
def test_matched_alpha_keeps_the_mean_squared_perturbation(alpha):
    matched = ratios.matched_alpha(alpha, displacement_ratio=0.6)
    assert 0.6 * ratios.mean_squared_share(matched) == pytest.approx(ratios.mean_squared_share(alpha), rel=1e-9)
    assert matched > alpha
    assert ratios.matched_alpha(alpha, displacement_ratio=1.0) == pytest.approx(alpha, rel=1e-6)


def test_matched_alpha_says_where_there_is_none():
    with pytest.raises(ValueError, match=r"displacement_ratio=0\.3 as alpha=1\.0 does"):
        ratios.matched_alpha(1.0, displacement_ratio=0.3)
    with pytest.raises(ValueError, match="displacement_ratio must be positive"):
        ratios.matched_alpha(1.0, displacement_ratio=-1.0)


@functools.cache
def simplex(alpha, m, n=20_000):
    sampler = jax.jit(lambda rng, alpha: ratios.dirichlet(n, m, rng, alpha=alpha))
    return np.asarray(sampler(jax.random.key(6), alpha), np.float64)


@pytest.mark.parametrize(("alpha", "m"), [(0.01, 4), (0.1, 4), (0.5, 32), (1.0, 4), (10.0, 4)])
def test_dirichlet_has_the_law_of_dirichlet(alpha, m):
    """Each weight is a Beta(alpha, (m - 1) alpha), the largest is scipy's, and the second moment is in closed form."""
    x = simplex(alpha, m)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x.sum(1), 1, atol=2e-6)
    law, smallest = stats.beta(alpha, (m - 1) * alpha), 1e-30
    resolved = x[:, 0][x[:, 0] > smallest]
    floor = law.cdf(smallest)
    assert abs(len(resolved) / len(x) - (1 - floor)) < 0.015
    coarse = np.minimum(resolved, 0.99)  # above, float32 is too coarse where most of the mass is
    distance = np.abs(
        np.array(
            [
                np.mean(coarse <= t) - (law.cdf(t) - floor) / (1 - floor)
                for t in law.ppf(floor + (1 - floor) * np.linspace(0.02, 0.98, 49))
                if t < 0.99
            ]
        )
    )
    assert distance.max(initial=0) < 0.015
    expected = np.random.default_rng(0).dirichlet(np.full(m, alpha), 20_000).max(1)
    assert stats.ks_2samp(np.round(x.max(1), 4), np.round(expected, 4)).pvalue > 1e-3
    squares = (x**2).sum(1)
    assert squares.mean() == pytest.approx((alpha + 1) / (m * alpha + 1), abs=4 * squares.std() / len(x) ** 0.5 + 1e-6)


def test_alpha_one_of_a_simplex_takes_exponentials_of_the_same_law():
    x, plain = simplex(1.0, 4), np.asarray(ratios.dirichlet(20_000, 4, jax.random.key(7)), np.float64)
    assert stats.ks_2samp(x[:, 1], plain[:, 1]).pvalue > 1e-3
    assert stats.kstest(plain[:, 2], stats.beta(1, 3).cdf).pvalue > 1e-3


def test_a_range_of_alpha_gives_each_draw_its_own():
    """The second moment of a row, averaged over alpha."""
    x = np.asarray(ratios.dirichlet(20_000, 16, jax.random.key(8), alpha=(0.5, 2.0)), np.float64)
    squares = (x**2).sum(1)
    expected = integrate.quad(lambda alpha: (alpha + 1) / (16 * alpha + 1) / 1.5, 0.5, 2.0)[0]
    assert squares.mean() == pytest.approx(expected, abs=4 * squares.std() / 20_000**0.5)
    fixed = [(np.asarray(ratios.dirichlet(20_000, 16, jax.random.key(8), alpha=a)) ** 2).sum(1) for a in (0.5, 2.0)]
    assert fixed[1].mean() < squares.mean() < fixed[0].mean()


def test_a_simplex_has_no_gradient_to_alpha_and_says_so():
    """A path through accepted proposals alone would be a biased one."""
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda alpha: ratios.dirichlet(4, 3, jax.random.key(0), alpha=alpha)[0, 0])(2.0)


def test_a_row_of_zeros_still_has_shares(monkeypatch):
    """An exponential draw is zero once in eight million times; a row of one source is nothing else then."""
    monkeypatch.setattr(jax.random, "exponential", lambda rng, shape, dtype: jnp.zeros(shape, dtype))
    assert ratios.dirichlet(2, 1, jax.random.key(0)).tolist() == [[1], [1]]
    assert ratios.dirichlet(1, 2, jax.random.key(0)).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("alpha", [-1.0, 0.0, np.nan, np.inf])
def test_a_traced_alpha_that_is_none_ends_all_the_same(alpha):
    assert jax.jit(lambda alpha: ratios.dirichlet(4, 3, jax.random.key(0), alpha=alpha))(alpha).shape == (4, 3)


def test_draws_of_a_simplex_are_checked():
    for n, m in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            ratios.dirichlet(n, m, jax.random.key(0))
    for alpha in (0.0, float("inf"), (0.5, float("nan"))):
        with pytest.raises(ValueError, match="alpha must be positive and finite"):
            ratios.dirichlet(2, 3, jax.random.key(0), alpha=alpha)
