import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from jaxmix.evaluation import linearity

CURVATURE = np.random.default_rng(0).uniform(0.1, 2, 12).astype(np.float32)


def quadratic(inputs):
    return jnp.sum(jnp.asarray(CURVATURE)[None] * inputs**2, axis=1) / 2


def rugged(inputs):
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(12, 20)).astype(np.float32))
    return jnp.sum(jnp.sin(inputs @ weight), axis=1)


def samples(n=6):
    inputs = np.random.default_rng(2).normal(size=(n, 12)).astype(np.float32)
    return jnp.asarray(inputs), jax.random.split(jax.random.key(0), n)


@pytest.mark.parametrize("options", [{}, {"num_steps": 1, "step_size": 5.0}])
def test_a_quadratic_loss_departs_by_half_its_curvature(options):
    """At the corners of the box, which any ascent reaches: 1/2 epsilon^2 sum of a."""
    gap = linearity.gap(*samples(), loss=quadratic, epsilon=0.5, **options)
    np.testing.assert_allclose(gap, np.full(6, CURVATURE.sum() / 8), rtol=1e-4)


def test_a_concave_loss_departs_as_far_below():
    gap = linearity.gap(*samples(), loss=lambda x: -quadratic(x), epsilon=0.5)
    np.testing.assert_allclose(gap, np.full(6, CURVATURE.sum() / 8), rtol=1e-4)


def test_a_linear_loss_does_not_depart():
    gap = linearity.gap(*samples(), loss=lambda x: x @ jnp.asarray(CURVATURE), epsilon=0.5)
    np.testing.assert_allclose(gap, np.zeros(6), atol=2e-6)


def test_the_gap_grows_with_epsilon_in_one_program():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def gap(epsilon):
        return linearity.gap(*samples(), loss=rugged, epsilon=epsilon)

    gaps = [gap(epsilon) for epsilon in (0.0, 0.02, 0.1, 0.3)]
    np.testing.assert_allclose(gaps[0], np.zeros(6), atol=1e-5)
    assert (np.diff(gaps, axis=0) > 0.01).all()


def test_the_largest_gap_on_the_way_counts():
    """The gap is 0 at both ends of the box, where the one step leads: the start's is left, of an arcsine law."""
    gap = linearity.gap(
        jnp.zeros((2000, 1)),
        jax.random.split(jax.random.key(0), 2000),
        loss=lambda x: jnp.cos(2 * jnp.pi * x[:, 0]),
        epsilon=1.0,
        num_steps=1,
        step_size=2.0,
    )
    assert stats.kstest(gap, stats.arcsine(0, 2).cdf).pvalue > 0.01


def test_an_ascent_beats_random_points_of_the_box():
    inputs, rng = samples()
    gap = linearity.gap(inputs, rng, loss=rugged, epsilon=0.1)
    base, gradient = rugged(inputs), jax.grad(lambda x: jnp.sum(rugged(x)))(inputs)
    noise = np.random.default_rng(3).uniform(-0.1, 0.1, (500, 6, 12)).astype(np.float32)
    points = jax.vmap(lambda delta: jnp.abs(rugged(inputs + delta) - base - jnp.sum(delta * gradient, axis=1)))(noise)
    assert (gap > points.max(axis=0)).all()


def test_results_do_not_depend_on_the_batch():
    inputs, rng = samples()
    whole = linearity.gap(inputs, rng, loss=rugged, epsilon=0.1)
    parts = [linearity.gap(inputs[s], rng[s], loss=rugged, epsilon=0.1) for s in (slice(0, 2), slice(2, 6))]
    np.testing.assert_allclose(jnp.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -1.0}, "epsilon must be at least 0 and finite, got -1.0"),
        ({"epsilon": float("nan")}, "epsilon must be at least 0 and finite, got nan"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"step_size": -0.5}, "step_size must be positive and finite, got -0.5"),
    ],
)
def test_options_that_make_no_ascent_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        linearity.gap(*samples(), loss=quadratic, **{"epsilon": 0.1, **options})


def test_arguments_of_the_wrong_kind_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    inputs, rng = samples()
    with pytest.raises(TypeError, match="inputs must be floats, got dtype int32"):
        linearity.gap(inputs.astype(jnp.int32), rng, loss=quadratic, epsilon=0.1)
    with pytest.raises(TypeError, match=r"epsilon must be a single number, got array"):
        linearity.gap(inputs, rng, loss=quadratic, epsilon=np.ones(6))
    with pytest.raises(ValueError, match=r"one key per sample, such as jax.random.split\(rng, 6\)"):
        linearity.gap(inputs, rng[0], loss=quadratic, epsilon=0.1)
