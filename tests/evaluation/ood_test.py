import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from jaxmix.evaluation import ood


def scores(n, m, ties, seed=0):
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(1, 1, n), rng.normal(0, 1.5, m)
    if ties:
        inside, outside = np.round(inside * 2) / 2, np.round(outside * 2) / 2
    return inside.astype(np.float32), outside.astype(np.float32)


def by_sklearn(inside, outside):
    labels, values = np.r_[np.ones(len(inside)), np.zeros(len(outside))], np.r_[inside, outside]
    fpr, tpr, _ = metrics.roc_curve(labels, values, drop_intermediate=False)
    return ood.Detection(
        auroc=metrics.roc_auc_score(labels, values),
        aupr_in=metrics.average_precision_score(labels, values),
        aupr_out=metrics.average_precision_score(1 - labels, -values),
        fpr95=fpr[np.argmax(tpr >= 0.95)],
        accuracy=np.max(tpr + 1 - fpr) / 2,
    )


def detection(inside, outside):
    return ood.detection(jnp.asarray(inside), jnp.asarray(outside))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "m"), [(200, 200), (60, 171), (333, 20), (1, 1), (1, 7), (19, 3), (21, 2)])
def test_all_measures_are_scikit_learn_s(n, m, ties):
    inside, outside = scores(n, m, ties, seed=n)
    np.testing.assert_allclose(detection(inside, outside), by_sklearn(inside, outside), atol=2e-6)


def test_perfect_scores_are_perfect():
    np.testing.assert_array_equal(detection(np.float32([3, 4, 5]), np.float32([1, 2])), [1, 1, 1, 0, 1])


def test_scores_that_are_all_wrong_are_worse_than_chance():
    inside, outside = np.float32([1, 2]), np.float32([3, 4, 5])
    np.testing.assert_allclose(detection(inside, outside), by_sklearn(inside, outside), atol=1e-6)
    assert detection(inside, outside).auroc == 0
    assert detection(inside, outside).accuracy == 0.5


@pytest.mark.parametrize("constant", [False, True])
def test_the_same_scores_inside_and_outside_tell_nothing(constant):
    """Constant ones have a single threshold: precision is the share of positives."""
    inside = np.zeros(50, np.float32) if constant else scores(50, 1, ties=False)[0]
    measures = detection(inside, inside)
    assert measures.auroc == pytest.approx(0.5)
    assert measures.accuracy == pytest.approx(0.5)
    assert measures.aupr_in == pytest.approx(0.5, abs=1e-6)
    assert measures.fpr95 == pytest.approx(1.0 if constant else 0.96)


def test_zeros_of_either_sign_tie():
    assert detection(np.float32([-0.0, 0.0]), np.float32([0.0, -0.0])).auroc == 0.5


def test_only_the_order_of_scores_counts():
    inside, outside = scores(60, 80, ties=True)
    expected = detection(inside, outside)
    for monotone in (lambda x: x + 16, lambda x: 4 * x, np.exp):
        np.testing.assert_array_equal(detection(monotone(inside), monotone(outside)), expected)


def test_infinite_scores_are_ordered_and_nan_ones_are_not():
    inside, outside = np.float32([np.inf, 1, 2]), np.float32([-np.inf, 0, np.inf])
    assert detection(inside, outside).auroc == pytest.approx((2.5 + 2 + 2) / 9)
    for pair in ((np.float32([np.nan, 1]), outside), (inside, np.float32([0, np.nan]))):
        assert np.isnan(detection(*pair)).all()


def test_empty_scores_are_refused():
    with pytest.raises(ValueError, match="got 0 scores inside and 3 outside: at least one of each"):
        ood.detection(jnp.zeros(0), jnp.zeros(3))
    with pytest.raises(ValueError, match="got 2 scores inside and 0 outside: at least one of each"):
        ood.detection(jnp.zeros(2), jnp.zeros(0))


LOGITS = np.random.default_rng(0).normal(size=(30, 10)).astype(np.float32) * 5


@pytest.mark.parametrize("temperature", [0.1, 1.0, 30.0])
def test_the_energy_is_its_definition(temperature):
    expected = temperature * special.logsumexp(LOGITS.astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(ood.energy(jnp.asarray(LOGITS), temperature=temperature), expected, rtol=1e-5, atol=1e-5)


def test_the_other_scores_are_their_definitions():
    logits = jnp.asarray(LOGITS)
    expected = special.softmax(LOGITS.astype(np.float64), axis=1).max(1)
    np.testing.assert_allclose(ood.max_probability(logits), expected, rtol=1e-5)
    np.testing.assert_array_equal(ood.max_logit(logits), LOGITS.max(1))


def test_scores_of_large_logits_are_finite_and_logits_of_half_precision_give_float32():
    """A shift changes a probability by nothing and the others by itself."""
    logits = jnp.asarray(LOGITS, jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(ood.max_probability(logits + 1000), ood.max_probability(logits), rtol=1e-3)
    for score in (ood.energy, ood.max_logit):
        np.testing.assert_allclose(score(logits + 1000), score(logits) + 1000, rtol=1e-6)
    for score in (ood.energy, ood.max_logit, ood.max_probability):
        half = score(logits.astype(jnp.bfloat16))
        assert half.dtype == jnp.float32
        np.testing.assert_array_equal(half, score(logits))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_that_are_none_are_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
        ood.energy(jnp.asarray(LOGITS), temperature=temperature)


def test_a_traced_temperature_needs_no_new_program():
    energy = jax.jit(lambda temperature: ood.energy(jnp.asarray(LOGITS), temperature=temperature))
    np.testing.assert_allclose(energy(2.0), ood.energy(jnp.asarray(LOGITS), temperature=2.0), rtol=1e-6)
    energy(3.0)
    assert energy._cache_size() == 1
