import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix.evaluation import calibration


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
    bins = calibration.confidence_bins(logits, labels, num_bins=num_bins)
    expected = by_definition(np.asarray(jax.nn.softmax(logits)), np.asarray(labels), num_bins)
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected, abs=1e-6)
    assert bins.total.sum() == 500


def test_bins_are_closed_on_the_right():
    """A confidence of exactly 1/2 belongs to the lower of two bins."""
    bins = calibration.confidence_bins(jnp.array([[0.0, 0.0], [0.0, 0.1]]), jnp.array([0, 0]), num_bins=2)
    np.testing.assert_array_equal(bins.total, [1, 1])


def test_sums_of_parts_are_the_sums_of_the_whole_and_padding_does_not_count():
    logits, labels = predictions()
    weights = jnp.asarray(np.random.default_rng(1).integers(0, 2, 500), jnp.float32)
    kept = np.flatnonzero(weights)
    whole = calibration.confidence_bins(logits[kept], labels[kept])
    halves = [calibration.confidence_bins(logits[s], labels[s], weights[s]) for s in (slice(0, 123), slice(123, None))]
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-5, atol=1e-5), halves[0], halves[1], whole
    )


def test_a_calibrated_model_has_no_error():
    logits = jnp.log(jnp.tile(jnp.array([[0.75, 0.25]]), (4, 1)))
    bins = calibration.confidence_bins(logits, jnp.array([0, 0, 0, 1]))
    assert calibration.expected_calibration_error(bins) == pytest.approx(0, abs=1e-6)


def test_a_number_of_bins_below_one_is_refused():
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        calibration.confidence_bins(jnp.ones((2, 2)), jnp.zeros(2, jnp.int32), num_bins=0)
