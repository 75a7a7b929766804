"""Measures of embeddings: alignment within classes, uniformity on the sphere, and principal components.

Alignment and uniformity compute an n x n matrix of distances. Pass a fixed random subset of at most about 4096 samples
(64 MiB per matrix).
"""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int


def alignment(features: Float[Array, "n d"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    r"""Returns the mean squared distance between features of the same class; lower is closer.

    .. math:: \frac{1}{\lvert P \rvert} \sum_{(i, j) \in P} \lVert f_i - f_j \rVert^2,
        \quad P = \{i < j : y_i = y_j\}, \; \lVert f_i \rVert = 1

    Args:
      features: floats [n, d], which the function normalises. A zero vector stays zero.
      labels: integer classes, [n].

    Returns:
      A float32 scalar in [0, 4]; NaN if no two samples share a class.

    Example:
      >>> features = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
      >>> embeddings.alignment(features, jnp.array([0, 0, 1])).item()
      2.0

    References:
      Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and Uniformity on the
      Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020
    """
    alike = _pairs(features) & (labels[:, None] == labels[None, :])
    return jnp.sum(_squared_distances(features), where=alike) / jnp.sum(alike).astype(jnp.float32)


def uniformity(features: Float[Array, "n d"]) -> Float[Array, ""]:
    r"""Returns the logarithm of the mean Gaussian potential between features; lower is more evenly spread.

    .. math:: \log \frac{2}{n (n - 1)} \sum_{i < j} e^{-2 \lVert f_i - f_j \rVert^2}, \quad \lVert f_i \rVert = 1

    Args:
      features: floats [n, d], which the function normalises. A zero vector stays zero.

    Returns:
      A float32 scalar in [-8, 0], 0 for identical features; NaN if there are fewer than two.

    Example:
      >>> embeddings.uniformity(jnp.array([[1.0, 0.0], [-2.0, 0.0]])).item()
      -8.0

    References:
      Wang and Isola, `Understanding Contrastive Representation Learning through Alignment and Uniformity on the
      Hypersphere <https://arxiv.org/abs/2005.10242>`_, 2020
    """
    pairs = _pairs(features)
    potential = jnp.exp(-2 * _squared_distances(features))
    return jnp.log(jnp.sum(potential, where=pairs) / jnp.sum(pairs).astype(jnp.float32))


def principal_components(features: Float[Array, "n d"], *, num_components: int = 2) -> Float[Array, "n k"]:
    """Projects centred features on the axes along which they vary most.

    The sign of an axis makes its largest loading by absolute value positive, so that plots of the same features are
    never mirrored.

    Args:
      features: floats [n, d], not normalised.
      num_components: number of axes, at most min(n, d).

    Returns:
      Float32 coordinates [n, num_components], in order of decreasing variance.

    Raises:
      ValueError: if num_components is not from 1 to min(n, d).

    Example:
      >>> features = jnp.array([[0.0, 1.0], [0.0, 5.0], [0.0, 6.0]])
      >>> [round(x, 3) for x in embeddings.principal_components(features, num_components=1)[:, 0].tolist()]
      [-3.0, 1.0, 2.0]
    """
    most = min(features.shape)
    if not 1 <= num_components <= most:
        raise ValueError(f"num_components must be 1 to {most} for features {features.shape}, got {num_components}")
    features = features.astype(jnp.float32)
    left, lengths, axes = jnp.linalg.svd(features - jnp.mean(features, axis=0, keepdims=True), full_matrices=False)
    leading = axes[:num_components]
    largest = jnp.take_along_axis(leading, jnp.argmax(jnp.abs(leading), axis=1, keepdims=True), axis=1)[:, 0]
    scale = lengths[:num_components] * jnp.where(largest < 0, -1, 1)
    return left[:, :num_components] * scale[None, :]


def _pairs(features: Array) -> Array:
    """Returns whether i < j, [n, n]."""
    index = jnp.arange(features.shape[0])
    return index[:, None] < index[None, :]


def _squared_distances(features: Array) -> Array:
    """Returns squared distances between l2-normalised features, [n, n]."""
    features = features.astype(jnp.float32)
    # The largest entry first, since squares of small or large ones leave float32's range.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(features), axis=1, keepdims=True))
    features = features / jnp.where(largest > 0, largest, 1)
    length = jnp.sum(features**2, axis=1, keepdims=True)
    features = features / jnp.sqrt(jnp.where(length > 0, length, 1))
    products = jnp.matmul(features, features.T, precision="highest")
    squares = jnp.diagonal(products)
    return jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
