"""A classifier as three maps, between which mixing finds every space that it can name.

    maps = features(inputs, train=False, between=keep)    [n, ...] -> [n, r, d]: feature maps, positions in one axis
    embedding = pool(maps)                                [n, r, d] -> [n, d]
    logits = classify(embedding)                          [n, d] -> [n, classes], or [n, r, d] -> [n, r, classes]

`stages` names the places within `features` where maps may be mixed, in order. At the i-th of them, counted from 1,
`features` replaces its maps [n, *space, channels] by between(i, maps), outside of any transformation of Flax such as
nn.remat. Inputs are place 0 and have no name. `attention(maps)` returns weights of positions [n, r] for Dense MultiMix.
Without it, similarity to the mean weighs them.

Your own model can be mixed in the same spaces if it has these methods. A model that has only __call__(inputs, train)
can be mixed in its inputs and logits.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

import jaxmix

Between = Callable[[int, Array], Array]
"""(place among the stages, from 1; maps [n, *space, channels]) -> what the model goes on with, shaped like them."""


MAPS = ("features", "pool", "classify")  # what a model needs to be mixed in embeddings
STAGED = (*MAPS, "stages")  # and in layers


def keep(stage: int, maps: Array) -> Array:
    """A Between that changes nothing."""
    del stage
    return maps


def mean_over_positions(maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
    """The pooling of everything but the ViT."""
    return maps.mean(axis=1, dtype=jnp.float32)


def first_position(maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
    """The pooling of the ViT: its class token."""
    return maps[:, 0].astype(jnp.float32)


def positions(maps: Float[Array, "n h w d"]) -> Float[Array, "n r d"]:
    """Height and width in one axis."""
    return maps.reshape(maps.shape[0], -1, maps.shape[-1])


def norm(train: bool, dtype: Any, **options: Any) -> nn.Module:
    """Batch normalisation, by running averages outside of training."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype, **options)


def lacking(model: Any, names: Sequence[str]) -> list[str]:
    """Returns which of these names a model lacks."""
    fields = getattr(type(model), "__dataclass_fields__", {})
    return [name for name in names if not hasattr(type(model), name) and name not in fields]


def attention(model: Any, maps: Float[Array, "n r d"]) -> Float[Array, "n r"]:
    """Weighs positions of a model's last maps, by its own attention or by similarity to the mean."""
    return jaxmix.attention.gap_attention(maps) if lacking(model, ["attention"]) else model.attention(maps)


class Whole(NamedTuple):
    """A model without inner maps: its logits stand for all three maps."""

    model: Any

    def features(self, inputs: Float[Array, "n ..."], *, train: bool) -> Float[Array, "n c"]:
        """Logits."""
        return self.model(inputs, train=train)

    def pool(self, maps: Float[Array, "n c"]) -> Float[Array, "n c"]:
        """The same."""
        return maps

    def classify(self, embedding: Float[Array, "n c"]) -> Float[Array, "n c"]:
        """The same."""
        return embedding


def as_maps(model: Any) -> Any:
    """Returns a model with the three maps, wrapped if needed."""
    return Whole(model) if lacking(model, MAPS) else model


class Classifier(nn.Module):
    """A backbone, a pooling and a linear head."""

    backbone: nn.Module
    num_classes: int
    pooling: Callable[[Array], Array] = mean_over_positions

    def setup(self):
        """Names the head."""
        self.head = nn.Dense(self.num_classes)

    @property
    def stages(self) -> tuple[str, ...]:
        """The backbone's."""
        return self.backbone.stages

    def features(
        self, inputs: Float[Array, "n ..."], *, train: bool = False, between: Between = keep
    ) -> Float[Array, "n r d"]:
        """Feature maps."""
        given = {} if between is keep else {"between": between}  # else a table of the model's calls shows the function
        return self.backbone(inputs, train=train, **given)

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
