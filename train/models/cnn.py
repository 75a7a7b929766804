"""A small convolutional network."""

from typing import Any

from flax import linen as nn
from jax import Array
from jaxtyping import Float

from train.models.classifier import Between, keep, norm, positions


class CNN(nn.Module):
    """Four convolutions with batch normalisation; the second and third halve the resolution. Three are stages."""

    width: int
    dtype: Any

    @property
    def stages(self) -> tuple[str, ...]:
        """What is mixed there: maps [n, h, w, d]."""
        return "convolution 1", "convolution 2", "convolution 3"

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, between: Between = keep
    ) -> Float[Array, "n r d"]:
        """Feature maps."""
        maps = images
        widths = (self.width, 2 * self.width, 4 * self.width, 4 * self.width)
        for i, (width, stride) in enumerate(zip(widths, (1, 2, 2, 1), strict=True)):
            maps = nn.Conv(width, (3, 3), stride, dtype=self.dtype)(maps)
            maps = nn.relu(norm(train, self.dtype)(maps))
            if i < len(self.stages):
                maps = between(i + 1, maps)
        return positions(maps)
