"""Attention, which weighs positions of feature maps: features [m, r, d] -> nonnegative weights [m, r]."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float


def gap_attention(features: Float[Array, "m r d"]) -> Float[Array, "m r"]:
    r"""Weighs positions by their similarity to the pooled embedding: :math:`\mathrm{relu}(Z u), u = \bar Z`.

    Args:
      features: maps [m, r, d].

    Returns:
      Float32 weights [m, r] that sum to 1 over positions, or are all 0 if no position is similar.

    Example:
      >>> attention.gap_attention(jnp.array([[[1.0], [3.0], [0.0]]])).tolist()
      [[0.25, 0.75, 0.0]]

    References:
      Venkataramanan et al., `Embedding Space Interpolation Beyond Mini-Batch, Beyond Pairs and
      Beyond Examples <https://arxiv.org/abs/2311.05538>`_, 2023
    """
    wide = features.astype(jnp.float32)
    return _normalised(jnp.einsum("mrd,md->mr", wide, jnp.mean(wide, axis=1), precision="highest"))


def class_attention(features: Float[Array, "m r d"], *, columns: Float[Array, "m d"]) -> Float[Array, "m r"]:
    """Weighs positions by the class activation map of each example's class.

    Args:
      features: maps [m, r, d].
      columns: the classifier's column for each example's class, [m, d], such as
        labels @ kernel.T.

    Returns:
      Float32 weights [m, r] that sum to 1 over positions, or are all 0 if the class is nowhere
      active.

    Example:
      >>> features = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> attention.class_attention(features, columns=jnp.array([[0.0, 2.0]])).tolist()
      [[0.0, 1.0]]

    References:
      Zhou et al., `Learning Deep Features for Discriminative Localization
      <https://arxiv.org/abs/1512.04150>`_, 2016
    """
    scores = jnp.einsum("mrd,md->mr", features.astype(jnp.float32), columns.astype(jnp.float32), precision="highest")
    return _normalised(scores)


def uniform_attention(features: Float[Array, "m r d"]) -> Float[Array, "m r"]:
    """Weighs all positions equally.

    Args:
      features: maps [m, r, d].

    Returns:
      Float32 weights [m, r], all 1 / r.

    Example:
      >>> attention.uniform_attention(jnp.ones((1, 2, 3))).tolist()
      [[0.5, 0.5]]
    """
    return jnp.full(features.shape[:2], 1 / features.shape[1], jnp.float32)


def _normalised(scores: Float[Array, "m r"]) -> Float[Array, "m r"]:
    positive = jax.nn.relu(scores)
    total = jnp.sum(positive, axis=1, keepdims=True)
    return positive / jnp.where(total > 0, total, 1)
