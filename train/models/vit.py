"""A vision transformer."""

import functools
from typing import Any

from flax import linen as nn
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from train.models.classifier import Between, keep, positions


class ViT(nn.Module):
    """A vision transformer; position 0 of its maps is the class token. All blocks but the last are stages.

    Its last block leaves the attention [n, heads, r, r] in the collection "intermediates": row
    0 of it, averaged over heads, is the attention of the class token.
    """

    width: int
    depth: int
    patch_size: int
    dtype: Any

    @property
    def stages(self) -> tuple[str, ...]:
        """What is mixed there: tokens [n, r, d], a sequence to a mask."""
        return tuple(f"block {i + 1}" for i in range(self.depth - 1))

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, between: Between = keep
    ) -> Float[Array, "n r d"]:
        """Feature maps."""
        dense, norm = functools.partial(nn.Dense, dtype=self.dtype), functools.partial(nn.LayerNorm, dtype=self.dtype)
        patch = (self.patch_size, self.patch_size)
        tokens = positions(nn.Conv(self.width, patch, patch, dtype=self.dtype)(images))
        start = self.param("class_token", nn.initializers.zeros, (1, 1, self.width)).astype(self.dtype)
        tokens = jnp.concatenate([jnp.broadcast_to(start, (len(tokens), 1, self.width)), tokens], axis=1)
        places = self.param("places", nn.initializers.normal(0.02), (1, *tokens.shape[1:]))
        tokens += places.astype(self.dtype)
        for block in range(self.depth):
            attention = nn.MultiHeadDotProductAttention(max(1, self.width // 64), dtype=self.dtype)
            tokens += attention(norm()(tokens), sow_weights=block == self.depth - 1)
            tokens += dense(self.width)(nn.gelu(dense(4 * self.width)(norm()(tokens))))
            if block < len(self.stages):
                tokens = between(block + 1, tokens)
        return norm()(tokens)
