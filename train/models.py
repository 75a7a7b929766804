"""Models as three maps: features [n, r, d], pool [n, d], classify [n, classes]."""

from flax import linen as nn
from jax import Array
from jaxtyping import Float

from train import config as config_lib


class CNN(nn.Module):
    """Three convolutions with batch normalisation; the second and third halve the resolution."""

    num_classes: int
    width: int

    def setup(self):
        """Names the layers."""
        widths = (self.width, 2 * self.width, 4 * self.width)
        self.convolutions = [nn.Conv(width, (3, 3), stride) for width, stride in zip(widths, (1, 2, 2), strict=True)]
        self.norms = [nn.BatchNorm(momentum=0.9) for _ in self.convolutions]
        self.head = nn.Dense(self.num_classes)

    def features(self, images: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n r d"]:
        """Feature maps, their positions in one axis."""
        maps = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = nn.relu(norm(convolution(maps), use_running_average=not train))
        return maps.reshape(maps.shape[0], -1, maps.shape[-1])

    def pool(self, maps: Float[Array, "n r d"]) -> Float[Array, "n d"]:
        """The mean over positions."""
        return maps.mean(axis=1)

    def classify(self, embedding: Float[Array, "n d"]) -> Float[Array, "n c"]:
        """Logits."""
        return self.head(embedding)

    def __call__(self, images: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n c"]:
        """Logits of images."""
        return self.classify(self.pool(self.features(images, train=train)))


def build(config: config_lib.Model, num_classes: int) -> nn.Module:
    """Builds a model by name."""
    architectures = {"cnn": CNN}
    config_lib.known("model", config.name, list(architectures))
    if config.width < 1:
        raise config_lib.UsageError(f"model.width must be at least 1, got {config.width}")
    return architectures[config.name](num_classes=num_classes, width=config.width)
