import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import decomposition

from jaxmix.evaluation import embeddings


def data(n=40, d=7, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)).astype(np.float32) * np.arange(d, 0, -1, dtype=np.float32) + 1
    return jnp.asarray(features), jnp.asarray(rng.integers(0, 4, n).astype(np.int32))


def by_definition(features, labels):
    """Loops over pairs, in float64."""
    features = np.asarray(features, np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distances, potentials = [], []
    for i, j in itertools.combinations(range(len(features)), 2):
        squared = np.sum((features[i] - features[j]) ** 2)
        potentials.append(np.exp(-2 * squared))
        if labels[i] == labels[j]:
            distances.append(squared)
    return np.mean(distances), np.log(np.mean(potentials))


def test_both_measures_are_their_definitions():
    features, labels = data()
    alignment, uniformity = by_definition(features, labels)
    assert embeddings.alignment(features, labels) == pytest.approx(alignment, rel=1e-5)
    assert embeddings.uniformity(features) == pytest.approx(uniformity, rel=1e-5)


def test_antipodes_are_as_far_apart_as_can_be():
    features = jnp.array([[3.0, 4.0], [-3.0, -4.0]])
    assert embeddings.alignment(features, jnp.array([1, 1])) == pytest.approx(4)
    assert embeddings.uniformity(features) == pytest.approx(-8)


def test_identical_features_lie_at_no_distance():
    features = jnp.tile(data(1)[0], (5, 1))
    assert embeddings.alignment(features, jnp.zeros(5, jnp.int32)) == pytest.approx(0, abs=1e-6)
    assert embeddings.uniformity(features) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 0.1, 1e30])
def test_length_does_not_count(scale):
    features, labels = data()
    scaled = features * jnp.asarray(scale, jnp.float32) * jnp.arange(1, 41, dtype=jnp.float32)[:, None]
    assert embeddings.alignment(scaled, labels) == pytest.approx(
        float(embeddings.alignment(features, labels)), rel=1e-5
    )
    assert embeddings.uniformity(scaled) == pytest.approx(float(embeddings.uniformity(features)), rel=1e-5)


def test_features_of_half_precision_are_measured_in_float32():
    features, labels = data()
    half = features.astype(jnp.bfloat16)
    for measure, expected in zip(
        (embeddings.alignment(half, labels), embeddings.uniformity(half)),
        by_definition(half.astype(jnp.float32), labels),
        strict=True,
    ):
        assert measure.dtype == jnp.float32
        assert measure == pytest.approx(expected, rel=1e-5)
    assert embeddings.principal_components(half).dtype == jnp.float32


def test_a_zero_feature_stays_zero():
    """At distance 1 from every other, and 0 from another zero."""
    features = jnp.array([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert embeddings.alignment(features, jnp.zeros(3, jnp.int32)) == pytest.approx(2 / 3)
    assert embeddings.uniformity(features) == pytest.approx(np.log((1 + 2 * np.exp(-2)) / 3), rel=1e-5)


def test_without_pairs_there_is_no_measure():
    features, _ = data(3)
    assert jnp.isnan(embeddings.alignment(features, jnp.arange(3)))
    assert jnp.isnan(embeddings.uniformity(features[:1]))


@pytest.mark.parametrize(("n", "d", "k"), [(40, 7, 2), (40, 7, 7), (5, 9, 3)])
def test_principal_components_are_scikit_learn_s(n, d, k):
    """Which chooses the same signs."""
    features, _ = data(n, d)
    components = embeddings.principal_components(features, num_components=k)
    expected = decomposition.PCA(k, svd_solver="full").fit_transform(np.asarray(features, np.float64))
    np.testing.assert_allclose(components, expected, atol=1e-3)


def test_the_largest_loading_of_an_axis_is_positive():
    features, _ = data()
    for mirrored in (features, -features):
        components = np.asarray(embeddings.principal_components(mirrored, num_components=3))
        centred = np.asarray(mirrored - mirrored.mean(0, keepdims=True))
        loadings = components.T @ centred  # of an axis, up to its variance
        assert (loadings.max(1) > -loadings.min(1)).all()


@pytest.mark.parametrize("num_components", [0, 8])
def test_more_axes_than_there_are_are_refused(num_components):
    message = rf"num_components must be 1 to 7 for features \(40, 7\), got {num_components}"
    with pytest.raises(ValueError, match=message):
        embeddings.principal_components(data()[0], num_components=num_components)
