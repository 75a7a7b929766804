"""A multilayer perceptron."""

from typing import Any

from flax import linen as nn
from jax import Array
from jaxtyping import Float

from train.models.classifier import Between, keep


class MLP(nn.Module):
    """Fully connected layers over the flattened input; one position. Each layer is a stage."""

    width: int
    depth: int
    dtype: Any

    @property
    def stages(self) -> tuple[str, ...]:
        """What is mixed there: rows [n, d]."""
        return tuple(f"layer {i + 1}" for i in range(self.depth))

    @nn.compact
    def __call__(self, inputs: Float[Array, "n ..."], *, train: bool, between: Between = keep) -> Float[Array, "n 1 d"]:
        """Feature maps."""
        hidden = inputs.reshape(inputs.shape[0], -1)
        for i in range(self.depth):
            hidden = between(i + 1, nn.relu(nn.Dense(self.width, dtype=self.dtype)(hidden)))
        return hidden[:, None]
