"""Models, one family per module; `train.models.classifier` describes the methods that mixing uses."""

from collections.abc import Callable, Sequence

from flax import linen as nn
import jax.numpy as jnp

from train import config as config_lib
from train.errors import UsageError
from train.models import own
from train.models.classifier import Classifier, first_position, mean_over_positions
from train.models.cnn import CNN
from train.models.mlp import MLP
from train.models.resnet import PreActResNet, ResNet50
from train.models.vit import ViT

# Width and depth unless the configuration gives them; 0 where the model has no such choice.
_SIZES = {
    "mlp": (256, 2),
    "cnn": (32, 0),
    "preact_resnet18": (64, 0),
    "wrn": (10, 28),
    "resnet50": (64, 0),
    "vit": (192, 6),
}


def build(config: config_lib.Config, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Builds the model that a configuration names, for inputs of a shape without the batch."""
    config_lib.known("model.dtype", config.model.dtype, ["float32", "bfloat16"])
    if ":" in config.model.name:
        return own.build(config, input_shape, num_classes)
    return _named(config.model, input_shape, num_classes)


def _named(config: config_lib.Model, input_shape: Sequence[int], num_classes: int) -> Classifier:
    config_lib.known("model", config.name, [*_SIZES, "MODULE:FUNCTION"])
    own_width, own_depth = _SIZES[config.name]
    width, depth = config.width or own_width, config.depth or own_depth
    if width < 1 or depth < 0:
        raise UsageError(f"model.width and depth must be at least 1, or 0 for the model's own, got {width}, {depth}")
    if depth and not own_depth:
        raise UsageError(f"model.depth={depth}: {config.name} has a fixed depth, so leave it 0")
    if len(input_shape) != 3 and config.name != "mlp":
        raise UsageError(f"model {config.name} takes images, not samples of shape {tuple(input_shape)}: take mlp")
    if config.name == "wrn" and (depth < 10 or depth % 6 != 4):
        raise UsageError(f"model.depth={depth}: WRN-n-k has n = 6 m + 4: 10, 16, 22, 28, 40")
    if config.name == "vit" and (config.patch_size < 1 or any(side % config.patch_size for side in input_shape[:2])):
        raise UsageError(f"model.patch_size={config.patch_size} does not divide images of {tuple(input_shape[:2])}")
    if config.name == "vit" and width % max(1, width // 64):
        raise UsageError(f"model.width={width}: vit has one head per 64 units, so take a multiple of 64")
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
