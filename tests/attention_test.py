"""Weights of positions against their definitions."""

import jax.numpy as jnp
import numpy as np

from jaxmix import attention


def test_attention_is_its_definition():
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.normal(1, 1, (6, 5, 4)), jnp.float32)
    z = np.asarray(features, np.float64)
    columns = rng.normal(size=(6, 4))
    for weights, direction in (
        (attention.gap_attention(features), z.mean(1)),
        (attention.class_attention(features, columns=jnp.asarray(columns, jnp.float32)), columns),
    ):
        scores = np.maximum(np.einsum("mrd,md->mr", z, direction), 0)
        expected = scores / np.maximum(scores.sum(1, keepdims=True), 1e-12)
        np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(attention.uniform_attention(features), np.full((6, 5), 0.2), rtol=1e-6)


def test_where_nothing_agrees_there_is_no_weight():
    features = jnp.asarray([[[1.0], [-1.0]], [[3.0], [-1.0]]])
    np.testing.assert_array_equal(attention.gap_attention(features), [[0, 0], [1, 0]])
