"""Configurations of runs, as plain dataclasses whose fields have descriptions."""

from collections.abc import Iterator, Sequence
import dataclasses
import difflib
import hashlib
import json
import os
import pathlib
import re
from typing import Any, TypeVar

from train import flat_mix
from train.errors import UsageError

Kind = TypeVar("Kind")


def _field(default: Any, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclasses.dataclass
class Data:
    """The data to learn from."""

    name: str = _field(
        "digits",
        "digits, iris, wine, breast_cancer, one_ring, four_bars, swiss_roll; a data set of train.prepare; or your "
        "own: a folder/ of images, FILE.npz, FILE.csv, MODULE:FUNCTION, tfds:NAME",
    )
    batch_size: int = _field(128, "samples per step, over all devices of all processes")
    num_train: int = _field(0, "size of a class-balanced subset to train on; 0: all samples")
    num_validation: int = _field(0, "number of training samples to hold out and measure instead of the test split")
    split_seed: int = _field(0, "seed for choosing these two, and for the points of the toy sets")
    augmentation: str = _field("", "augmentations of training images, in order: pad_crop, flip, random_resized_crop")
    image_size: int = _field(
        0, "folder/, tfds:NAME, imagenet2012: side to cut images to; 0: their own, or 224 for imagenet2012"
    )
    channels: int = _field(3, "folder/: channels to convert images to, 3 (RGB) or 1 (gray)")
    mean: tuple[float, ...] = _field((), "mean per channel of pixels in [0, 1]; (): that of the training split")
    std: tuple[float, ...] = _field((), "standard deviation per channel, likewise; give mean and std or neither")
    data_dir: str = _field("", "tfds: folder of prepared data; empty: the default of tfds")
    manual_dir: str = _field("", "tfds: folder of original files, to prepare from without a network")
    num_threads: int = _field(16, "folder/, tfds:NAME, imagenet2012: threads per process that decode images")

    @property
    def title(self) -> str:
        """The name in figures and run folders; the last part of a path."""
        return re.sub("[:$]", "-", os.path.basename(os.path.abspath(self.name)))  # $ is mathematics in a figure


@dataclasses.dataclass
class Model:
    """The model to train."""

    name: str = _field("cnn", "mlp, cnn, preact_resnet18, wrn, resnet50 or vit, or your own: MODULE:FUNCTION")
    width: int = _field(0, "units, channels of the first layer, k of WRN-n-k, or embedding size; 0: the model's own")
    depth: int = _field(0, "layers of mlp, n of WRN-n-k, blocks of vit; 0: the model's own")
    patch_size: int = _field(4, "vit: side of a patch in pixels")
    final_norm: bool = _field(True, "preact_resnet18, wrn: apply normalisation and ReLU before pooling")
    dtype: str = _field("float32", "dtype to compute in, float32 or bfloat16; parameters are float32")


@dataclasses.dataclass
class Mix:
    """How to mix samples; each device mixes its own share of the batch."""

    policy: str = _field(
        "kmixup(k=8, alpha=1.0)",
        "method of mixing, as in jaxmix.policy; erm mixes nothing; or an objective: dense_multimix, transmix, "
        "approximate_mixup, linearized_mixup",
    )
    space: str = _field(
        "inputs", "space to mix in: inputs, embeddings, logits, or layers (inputs or a stage, drawn at each step)"
    )
    label_smoothing: float = _field(0.0, "share of each label that goes to all classes equally, before mixing")
    clean_weight: float = _field(
        0.0, "weight of an added loss on unmixed samples; doubles the samples of a step if inputs are mixed"
    )
    clean_epochs: int = _field(0, "number of last epochs without mixing")
    vae: str = _field("", "run folder of train.vae for varmixup(...), reconstructed(...) and in_latent_space(...)")


@dataclasses.dataclass
class Optimizer:
    """How to update the parameters."""

    name: str = _field("adamw", "adamw, or sgd with momentum and coupled weight decay")
    learning_rate: float = _field(3e-3, "peak learning rate")
    weight_decay: float = _field(1e-4, "weight decay of all parameters")
    decay_vectors: bool = _field(True, "also decay biases, and other parameters of rank 1 or less such as norms'")
    momentum: float = _field(0.9, "sgd: momentum")
    schedule: str = _field("cosine", "schedule of the learning rate: cosine (to 0), steps or constant")
    warmup_epochs: float = _field(1.0, "epochs in which the learning rate rises from 0, at most half of all")
    milestones: tuple[int, ...] = _field((), "steps: epochs after which the learning rate is divided by 10")
    clip_norm: float = _field(0.0, "largest norm of the gradient of all parameters, clipped beyond; 0: no clipping")
    accumulate: int = _field(1, "number of parts in which a step computes its batch; each part is mixed by itself")
    ema: float = _field(
        0.0, "decay of the parameters' moving average, such as 0.999, which is also measured; 0: no average"
    )


@dataclasses.dataclass
class Config:
    """Everything that determines a run, bit for bit on a given device count."""

    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    mix: Mix = dataclasses.field(default_factory=Mix)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    num_epochs: int = _field(40, "passes over the training data")
    seed: int = _field(0, "seed of the parameters, the data order, augmentation and mixing")
    checkpoint_steps: int = _field(200, "steps between checkpoints; the run's end has one, too")
    eval_epochs: int = _field(1, "epochs between measurements of the test or validation split; the last has one, too")
    keep_best: str = _field("", "measure of the best checkpoint to keep: accuracy, nll, ema_accuracy or ema_nll")

    @property
    def title(self) -> str:
        """The title of figures."""
        space = "" if self.mix.space == "inputs" else f" of {self.mix.space}"
        return f"{self.data.title}, {self.model.name}, {self.mix.policy}{space}, seed {self.seed}"


@dataclasses.dataclass
class Autoencoder:
    """A VAE and the weights of its loss."""

    latent_size: int = _field(64, "number of latent coordinates")
    widths: tuple[int, ...] = _field((32, 64, 128), "channels after each halving of the image")
    mmd_weight: float = _field(100.0, "weight of the squared MMD to the prior; the squared error over pixels has 1")
    kl_weight: float = _field(0.0, "weight of the KL divergence in nats; 1 with mmd_weight=0 is a plain VAE")
    kernel: str = _field("gaussian", "kernel of the MMD: gaussian or inverse_multiquadric")


@dataclasses.dataclass
class VaeConfig:
    """Everything that determines the training of a VAE, bit for bit on a given device count."""

    data: Data = dataclasses.field(default_factory=Data)
    vae: Autoencoder = dataclasses.field(default_factory=Autoencoder)
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(weight_decay=0.0))
    num_epochs: int = _field(40, "passes over the training data")
    seed: int = _field(0, "seed of the parameters, the data order, augmentation and samples")
    checkpoint_steps: int = _field(200, "steps between checkpoints; the run's end has one, too")
    eval_epochs: int = _field(1, "epochs between measurements of the test or validation split; the last has one, too")
    judge_epochs: int = _field(10, "epochs of the classifier that tests reconstructions; 0: no classifier")

    @property
    def title(self) -> str:
        """The title of figures."""
        return f"{self.data.title}, VAE of {self.vae.latent_size} latents, seed {self.seed}"


# These do not change the parameters, and may change when a run resumes: folders, measurements, what is kept.
INCIDENTAL = (
    *("data.data_dir", "data.manual_dir", "data.num_threads"),
    *("checkpoint_steps", "eval_epochs", "keep_best", "judge_epochs"),
)


def fingerprint(config: Any) -> str:
    """Returns a hash of the fields that determine a run; new fields with their defaults do not change it."""
    defaults = {name: value for name, value, _ in leaves(type(config)())}
    chosen = {name: value for name, value, _ in leaves(config) if name not in INCIDENTAL and value != defaults[name]}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def read(path: pathlib.Path, kind: type[Kind]) -> Kind:
    """Reads the configuration from a run's config.json."""
    try:
        return from_tree(kind, json.loads(path.read_text()))
    except OSError:
        raise UsageError(f"{path.parent} contains no run: {path.name} is missing") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not from this version of the program: {error}") from None


def from_tree(kind: Any, tree: dict[str, Any]) -> Any:
    """Makes a configuration, or part of one, from its fields in JSON; missing fields get their defaults."""
    if kind is Data and "channels" not in tree and tree.get("image_size") == 224:
        tree = tree | {"image_size": 0}  # as that default is written since data have channels
    if kind is Mix:
        tree = flat_mix.translated(tree)
    parts = {
        field.name: from_tree(field.type, tree[field.name]) if isinstance(tree[field.name], dict) else tree[field.name]
        for field in dataclasses.fields(kind)
        if field.name in tree
    }
    unknown = sorted(set(tree) - set(parts))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in parts.items()})


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yields name, value and description of every field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, field.metadata["doc"]


def known(kind: str, name: str, names: Sequence[str], *, prefix: str = "") -> None:
    """Raises a UsageError for an unknown name, which names the nearest alternative, or all of them."""
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        advice = f"did you mean {prefix}{nearest[0]}?" if nearest else f"take one of {', '.join(names)}"
        raise UsageError(f"unknown {kind} {prefix}{name}: {advice}")
