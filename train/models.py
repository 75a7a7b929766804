"""Models as three maps: features [n, r, d], pool [n, d], classify [n, classes].

A Classifier is a backbone, which gives feature maps with their positions in one axis, under a
pooling and a linear head. Compute may be bfloat16; parameters, batch statistics, embeddings
and logits are float32.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

import jaxmix
from train import config as config_lib
from train.errors import UsageError


def mean_over_positions(maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
    """The pooling of everything but the ViT."""
    return maps.mean(axis=1, dtype=jnp.float32)


def first_position(maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
    """The pooling of the ViT: its class token."""
    return maps[:, 0].astype(jnp.float32)


class Classifier(nn.Module):
    """A backbone, a pooling and a linear head."""

    backbone: nn.Module
    num_classes: int
    pooling: Callable[[Array], Array] = mean_over_positions

    def setup(self):
        """Names the head."""
        self.head = nn.Dense(self.num_classes)

    def features(self, inputs: Float[Array, "n ..."], *, train: bool = False) -> Float[Array, "n r d"]:
        """Feature maps."""
        return self.backbone(inputs, train=train)

    def pool(self, maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
        """The embedding."""
        return self.pooling(maps)

    def attention(self, maps: Float[Array, "n r d"]) -> Float[Array, "n r"]:
        """How much positions of the last maps count: for a ViT's class token, or by their agreement with the mean."""
        sown = jax.tree.leaves(self.backbone.variables.get("intermediates", {}))
        return sown[-1][:, :, 0].mean(axis=1) if sown else jaxmix.attention.gap_attention(maps)

    def classify(self, embedding: Float[Array, "*n d"]) -> Float[Array, "*n c"]:
        """Logits of embeddings or, position by position, of maps."""
        return self.head(embedding)

    def __call__(self, inputs: Float[Array, "n ..."], *, train: bool = False) -> Float[Array, "n c"]:
        """Logits of inputs."""
        return self.classify(self.pool(self.features(inputs, train=train)))


def _positions(maps: Float[Array, "n h w d"]) -> Float[Array, "n r d"]:
    return maps.reshape(maps.shape[0], -1, maps.shape[-1])


class MLP(nn.Module):
    """Fully connected layers over the flattened input; one position."""

    width: int
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "n ..."], *, train: bool) -> Float[Array, "n 1 d"]:
        """Feature maps."""
        hidden = inputs.reshape(inputs.shape[0], -1)
        for _ in range(self.depth):
            hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype)(hidden))
        return hidden[:, None]


class CNN(nn.Module):
    """Four convolutions with batch normalisation; the second and third halve the resolution."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n r d"]:
        """Feature maps."""
        maps = images
        widths = (self.width, 2 * self.width, 4 * self.width, 4 * self.width)
        for width, stride in zip(widths, (1, 2, 2, 1), strict=True):
            maps = nn.Conv(width, (3, 3), stride, dtype=self.dtype)(maps)
            maps = nn.relu(_norm(train, self.dtype)(maps))
        return _positions(maps)


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

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n r d"]:
        """Feature maps."""
        norm, conv = functools.partial(_norm, train, self.dtype), functools.partial(_conv, self.dtype)
        maps = conv(self.stem_width, 3)(images)
        for stage, width in enumerate(self.widths):
            for block in range(self.num_blocks):
                stride = 2 if stage and not block else 1
                normed = nn.relu(norm()(maps))
                if stride > 1 or maps.shape[-1] != width:
                    maps = conv(width, 1, stride)(normed)
                normed = nn.relu(norm()(conv(width, 3, stride)(normed)))
                maps += conv(width, 3)(normed)
        if self.final_norm:
            maps = nn.relu(norm()(maps))
        return _positions(maps)


class ResNet50(nn.Module):
    """ResNet-50 for large images, its strides in the 3 x 3 convolutions (v1.5)."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n r d"]:
        """Feature maps."""
        norm, conv = functools.partial(_norm, train, self.dtype), functools.partial(_conv, self.dtype)
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
        return _positions(maps)


class ViT(nn.Module):
    """A vision transformer; position 0 of its maps is the class token.

    Its last block leaves the attention [n, heads, r, r] in the collection "intermediates": row
    0 of it, averaged over heads, is the attention of the class token.
    """

    width: int
    depth: int
    patch_size: int
    dtype: Any

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n r d"]:
        """Feature maps."""
        dense, norm = functools.partial(nn.Dense, dtype=self.dtype), functools.partial(nn.LayerNorm, dtype=self.dtype)
        patch = (self.patch_size, self.patch_size)
        tokens = _positions(nn.Conv(self.width, patch, patch, dtype=self.dtype)(images))
        start = self.param("class_token", nn.initializers.zeros, (1, 1, self.width)).astype(self.dtype)
        tokens = jnp.concatenate([jnp.broadcast_to(start, (len(tokens), 1, self.width)), tokens], axis=1)
        places = self.param("places", nn.initializers.normal(0.02), (1, *tokens.shape[1:]))
        tokens += places.astype(self.dtype)
        for block in range(self.depth):
            attention = nn.MultiHeadDotProductAttention(max(1, self.width // 64), dtype=self.dtype)
            tokens += attention(norm()(tokens), sow_weights=block == self.depth - 1)
            tokens += dense(self.width)(nn.gelu(dense(4 * self.width)(norm()(tokens))))
        return norm()(tokens)


def _norm(train: bool, dtype: Any, **options: Any) -> nn.Module:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype, **options)


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


# Width and depth unless the configuration gives them; 0 where the model has no such choice.
_SIZES = {
    "mlp": (256, 2),
    "cnn": (32, 0),
    "preact_resnet18": (64, 0),
    "wrn": (10, 28),
    "resnet50": (64, 0),
    "vit": (192, 6),
}


def build(config: config_lib.Model, input_shape: Sequence[int], num_classes: int) -> Classifier:
    """Builds a model by name, for inputs of a shape without the batch."""
    config_lib.known("model", config.name, list(_SIZES))
    config_lib.known("model.dtype", config.dtype, ["float32", "bfloat16"])
    own_width, own_depth = _SIZES[config.name]
    width, depth = config.width or own_width, config.depth or own_depth
    if width < 1 or depth < 0:
        raise UsageError(f"model.width and depth must be at least 1, or 0 for the model's own, got {width}, {depth}")
    if depth and not own_depth:
        raise UsageError(f"model.depth={depth}: {config.name} has its own, leave it 0")
    if len(input_shape) != 3 and config.name != "mlp":
        raise UsageError(f"model {config.name} takes images, not samples of shape {tuple(input_shape)}: take mlp")
    if config.name == "wrn" and (depth < 10 or depth % 6 != 4):
        raise UsageError(f"model.depth={depth}: WRN-n-k has n = 6 m + 4: 10, 16, 22, 28, 40")
    if config.name == "vit" and (config.patch_size < 1 or any(side % config.patch_size for side in input_shape[:2])):
        raise UsageError(f"model.patch_size={config.patch_size} does not divide images of {tuple(input_shape[:2])}")
    if config.name == "vit" and width % max(1, width // 64):
        raise UsageError(f"model.width={width}: vit has a head for every 64, take a multiple of 64")
    dtype = jnp.dtype(config.dtype)
    backbones: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: MLP(width, depth, dtype),
        "cnn": lambda: CNN(width, dtype),
        "preact_resnet18": lambda: PreActResNet(
            width, tuple(width * 2**stage for stage in range(4)), 2, config.final_norm, dtype
        ),
        "wrn": lambda: PreActResNet(
            16, tuple(16 * width * 2**stage for stage in range(3)), (depth - 4) // 6, config.final_norm, dtype
        ),
        "resnet50": lambda: ResNet50(width, dtype),
        "vit": lambda: ViT(width, depth, config.patch_size, dtype),
    }
    pooling = first_position if config.name == "vit" else mean_over_positions
    return Classifier(backbones[config.name](), num_classes, pooling)
