import itertools

import calibration as uncertainty_calibration  # the package of that name, an independent oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from sklearn import metrics

from jaxmix.evaluation import calibration

confidence_bins = jax.jit(calibration.confidence_bins, static_argnames="num_bins")


def by_definition(probabilities, labels, num_bins):
    """A loop over bins with float32 edges, closed on the right."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.arange(num_bins + 1, dtype=np.float32) / np.float32(num_bins)
    error = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


def predictions(n=500, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)).astype(np.float32) * 2
    labels = np.where(rng.uniform(size=n) < 0.6, logits.argmax(1), rng.integers(0, 5, n)).astype(np.int32)
    return jnp.asarray(logits), jnp.asarray(labels)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_the_error_is_its_definition(num_bins):
    logits, labels = predictions()
    bins = confidence_bins(logits, labels, num_bins=num_bins)
    expected = by_definition(np.asarray(jax.nn.softmax(logits)), np.asarray(labels), num_bins)
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected, abs=1e-6)
    assert bins.total.sum() == 500


def test_bins_are_closed_on_the_right():
    """A confidence of exactly 1/2 belongs to the lower of two bins."""
    bins = confidence_bins(jnp.array([[0.0, 0.0], [0.0, 0.1]]), jnp.array([0, 0]), num_bins=2)
    np.testing.assert_array_equal(bins.total, [1, 1])


def test_sums_of_parts_are_the_sums_of_the_whole_and_padding_does_not_count():
    logits, labels = predictions()
    weights = jnp.asarray(np.random.default_rng(1).integers(0, 2, 500), jnp.float32)
    kept = np.flatnonzero(weights)
    whole = confidence_bins(logits[kept], labels[kept])
    halves = [confidence_bins(logits[s], labels[s], weights[s]) for s in (slice(0, 123), slice(123, None))]
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-5, atol=1e-5), halves[0], halves[1], whole
    )


def test_a_calibrated_model_has_no_error():
    logits = jnp.log(jnp.tile(jnp.array([[0.75, 0.25]]), (4, 1)))
    bins = confidence_bins(logits, jnp.array([0, 0, 0, 1]))
    assert calibration.expected_calibration_error(bins) == pytest.approx(0, abs=1e-6)


def test_a_number_of_bins_below_one_is_refused():
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        confidence_bins(jnp.ones((2, 2)), jnp.zeros(2, jnp.int32), num_bins=0)


def test_scores_are_those_of_scikit_learn():
    logits, labels = predictions()
    probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    nll, brier = calibration.negative_log_likelihood(logits, labels), calibration.brier_score(logits, labels)
    assert nll.shape == brier.shape == (500,)
    assert nll.mean() == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-5)
    expected = metrics.brier_score_loss(labels, probabilities, scale_by_half=False)
    assert brier.mean() == pytest.approx(expected, rel=1e-5)


def test_large_logits_keep_their_likelihood():
    nll = calibration.negative_log_likelihood(jnp.array([[0.0, 1000.0]], jnp.bfloat16), jnp.array([0]))
    assert nll.dtype == jnp.float32
    assert nll.item() == 1000


def test_errors_agree_with_the_package_uncertainty_calibration():
    logits, labels = predictions()
    probabilities = np.asarray(jax.nn.softmax(logits))
    ece = calibration.expected_calibration_error(confidence_bins(logits, labels))
    adaptive = calibration.adaptive_calibration_error(logits, labels)
    truth = np.asarray(labels)
    assert ece == pytest.approx(uncertainty_calibration.get_ece(probabilities, truth), abs=1e-5)
    assert adaptive == pytest.approx(uncertainty_calibration.get_ece_em(probabilities, truth), abs=1e-5)
    assert abs(adaptive - ece) > 1e-4


def test_equal_confidences_share_a_bin_of_equal_mass():
    """Half of the samples, all alike: in any order they fall into one bin, so nothing of their error cancels."""
    logits = jnp.log(jnp.array([[0.7, 0.3]] * 6 + [[0.9, 0.1]] * 6))
    labels = jnp.array([0, 1, 0, 1, 0, 1] + [0] * 6)
    for order in (np.arange(12), np.arange(12)[::-1], np.random.default_rng(0).permutation(12)):
        error = calibration.adaptive_calibration_error(logits[order], labels[order], num_bins=4)
        assert error == pytest.approx((0.2 + 0.1) / 2, abs=1e-6)


def test_every_bin_of_fewer_samples_than_bins_is_a_sample():
    logits = jnp.log(jnp.array([[0.6, 0.4], [0.8, 0.2]]))
    error = calibration.adaptive_calibration_error(logits, jnp.array([0, 1]), num_bins=15)
    assert error == pytest.approx((0.4 + 0.8) / 2, abs=1e-6)


def test_the_other_errors_are_their_definitions():
    logits, labels = predictions()
    probabilities, truth = np.asarray(jax.nn.softmax(logits)), np.asarray(labels)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == truth
    bins = confidence_bins(logits, labels)
    inside = [np.ceil(15 * confidence) == b for b in range(1, 16)]
    gaps = [abs(correct[i].mean() - confidence[i].mean()) for i in inside if i.any()]
    assert calibration.maximum_calibration_error(bins) == pytest.approx(max(gaps), abs=1e-5)
    signed = calibration.signed_calibration_error(bins)
    assert signed == pytest.approx(confidence.mean() - correct.mean(), abs=1e-5)
    classwise = []
    for c in range(5):  # each class is a question of its own: two columns, its probability always the larger one
        error, one = 0.0, probabilities[:, c]
        for b in range(1, 16):
            i = np.clip(np.ceil(15 * one), 1, 15) == b
            error += abs((truth[i] == c).sum() - one[i].sum()) / 500
        classwise.append(error)
    measured = calibration.classwise_calibration_error(calibration.classwise_bins(logits, labels))
    assert measured == pytest.approx(np.mean(classwise), abs=1e-5)


def test_over_confidence_is_above_zero_and_under_confidence_below():
    logits = jnp.log(jnp.tile(jnp.array([[0.75, 0.25]]), (4, 1)))
    over = confidence_bins(logits, jnp.array([0, 0, 1, 1]))
    under = confidence_bins(logits, jnp.array([0, 0, 0, 0]))
    assert calibration.signed_calibration_error(over) == pytest.approx(0.25)
    assert calibration.signed_calibration_error(under) == pytest.approx(-0.25)


def test_classwise_bins_of_parts_add_up_without_padding():
    logits, labels = predictions()
    weights = (jnp.arange(500) < 400).astype(jnp.float32)
    part = calibration.classwise_bins(logits, labels, weights)
    whole = calibration.classwise_bins(logits[:400], labels[:400])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), part, whole)


def test_the_temperature_is_the_likelihood_s_optimum():
    logits, labels = predictions()

    def loss(log_temperature):
        return float(calibration.negative_log_likelihood(logits * np.exp(-log_temperature), labels).mean())

    expected = np.exp(optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    fitted = float(calibration.fit_temperature(logits, labels))
    assert fitted == pytest.approx(expected, rel=2e-3)
    assert abs(fitted - 1) > 0.1
    assert calibration.fit_temperature(7 * logits, labels) == pytest.approx(7 * fitted, rel=1e-4)


def test_a_class_without_a_chance_has_no_part_in_the_temperature():
    logits, labels = predictions()
    masked = jnp.concatenate([logits, jnp.full((len(logits), 1), -jnp.inf)], axis=1)
    assert calibration.fit_temperature(masked, labels) == pytest.approx(calibration.fit_temperature(logits, labels))


@pytest.mark.parametrize(
    ("logits", "why"),
    [
        (jnp.eye(8), "all right: no temperature is too low"),
        (50 * jnp.eye(8) + 100, "all right, by a margin that saturates"),
        (jnp.roll(jnp.eye(8), 1, axis=1), "all wrong: none is too high"),
        (jnp.zeros((8, 8)), "no better than chance: none makes a difference"),
        (jnp.ones((8, 1)), "one class"),
        (jnp.full((8, 8), jnp.inf), "not finite"),
        (predictions()[0][:8, :1] * jnp.ones(8).at[0].set(jnp.nan)[None], "nan"),
        (jnp.where(jnp.eye(8) > 0, -jnp.inf, 0.0), "the class itself has no chance"),
        (1e-4 * predictions()[0], "the best one lies below .01"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_temperature_that_the_data_do_not_determine_is_nan(logits, why):
    labels = predictions()[1][: len(logits)] if len(logits) > 8 else jnp.arange(8) % logits.shape[1]
    assert np.isnan(calibration.fit_temperature(logits, labels)), why


def test_one_mistake_of_many_determines_the_temperature():
    """Between two classes, of margin m: 1 / T = log(99) / m where one of 100 is wrong."""
    logits = jnp.tile(jnp.array([[4.0, 0.0]]), (100, 1))
    fitted = calibration.fit_temperature(logits, jnp.zeros(100, jnp.int32).at[7].set(1))
    assert fitted == pytest.approx(4 / np.log(99), rel=1e-4)


def test_no_samples_have_no_adaptive_error():
    with pytest.raises(ValueError, match="num_bins=15 and n=0"):
        calibration.adaptive_calibration_error(jnp.ones((0, 2)), jnp.zeros(0, jnp.int32))
