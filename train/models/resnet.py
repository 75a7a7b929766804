"""Residual networks, for small images and for large ones.

Maps are mixed after their first two stages, as in the code of manifold mixup's authors (Verma et al., 2019).
"""

from collections.abc import Sequence
import functools
from typing import Any

from flax import linen as nn
from jax import Array
from jaxtyping import Float

from train.models import classifier
from train.models.classifier import Between, keep, positions


class PreActResNet(nn.Module):
    """A ResNet for small images, normalised before its convolutions (He et al., 2016).

    Widths 64 to 512 in four stages of two blocks are PreAct ResNet-18; 16k, 32k, 64k in three
    stages of (n - 4) / 6 blocks are WRN-n-k (Zagoruyko & Komodakis, 2016), without dropout.
    """

    stem_width: int
    widths: Sequence[int]
    num_blocks: int
    final_norm: bool
    dtype: Any

    @property
    def stages(self) -> tuple[str, ...]:
        """What is mixed there: maps [n, h, w, d], before they are normalised."""
        return ("stage 1", "stage 2")[: len(self.widths)]

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, between: Between = keep
    ) -> Float[Array, "n r d"]:
        """Feature maps."""
        norm, conv = functools.partial(classifier.norm, train, self.dtype), functools.partial(_conv, self.dtype)
        maps = conv(self.stem_width, 3)(images)
        for stage, width in enumerate(self.widths):
            for block in range(self.num_blocks):
                stride = 2 if stage and not block else 1
                normed = nn.relu(norm()(maps))
                if stride > 1 or maps.shape[-1] != width:
                    maps = conv(width, 1, stride)(normed)
                normed = nn.relu(norm()(conv(width, 3, stride)(normed)))
                maps += conv(width, 3)(normed)
            if stage < len(self.stages):
                maps = between(stage + 1, maps)
        if self.final_norm:
            maps = nn.relu(norm()(maps))
        return positions(maps)


class ResNet50(nn.Module):
    """ResNet-50 for large images, its strides in the 3 x 3 convolutions (v1.5)."""

    width: int
    dtype: Any

    @property
    def stages(self) -> tuple[str, ...]:
        """What is mixed there: maps [n, h, w, d]."""
        return "stage 1", "stage 2"

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool, between: Between = keep
    ) -> Float[Array, "n r d"]:
        """Feature maps."""
        norm, conv = functools.partial(classifier.norm, train, self.dtype), functools.partial(_conv, self.dtype)
        maps = nn.relu(norm()(conv(self.width, 7, 2)(images)))
        maps = nn.max_pool(maps, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, num_blocks in enumerate((3, 4, 6, 3)):
            width = self.width * 2**stage
            for block in range(num_blocks):
                stride = 2 if stage and not block else 1
                residual = nn.relu(norm()(conv(width, 1)(maps)))
                residual = nn.relu(norm()(conv(width, 3, stride)(residual)))
                residual = norm(scale_init=nn.initializers.zeros)(conv(4 * width, 1)(residual))
                if not block:
                    maps = norm()(conv(4 * width, 1, stride)(maps))
                maps = nn.relu(maps + residual)
            if stage < len(self.stages):
                maps = between(stage + 1, maps)
        return positions(maps)


def _conv(dtype: Any, width: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv(
        width,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
    )
