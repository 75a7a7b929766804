"""The configuration of a run: plain dataclasses, each field with its description."""

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
    """What is learnt from."""

    name: str = _field(
        "digits",
        "digits, iris, wine, breast_cancer, one_ring, four_bars, swiss_roll, of train.prepare, or your own: a "
        "folder/ of images, FILE.npz, FILE.csv, MODULE:FUNCTION, tfds:NAME",
    )
    batch_size: int = _field(128, "samples per step, over all devices of all processes")
    num_train: int = _field(0, "size of a class-balanced subset to train on; 0 takes all")
    num_validation: int = _field(0, "samples held out of the training split, measured in place of the test split")
    split_seed: int = _field(0, "of the choice of these two, and of the points of the toy sets")
    augmentation: str = _field("", "of training images, in the order given: pad_crop, flip, random_resized_crop")
    image_size: int = _field(
        0, "folder/, tfds:NAME, imagenet2012: side that images are cut to; 0: their own, 224 of imagenet2012"
    )
    channels: int = _field(3, "folder/: what all images become: 3 (RGB) or 1 (gray)")
    mean: tuple[float, ...] = _field((), "per channel, of pixels in [0, 1]; () measures the training split")
    std: tuple[float, ...] = _field((), "likewise; give both or neither")
    data_dir: str = _field("", "tfds: where prepared data lie; its default where empty")
    manual_dir: str = _field("", "tfds: folder of original files, to prepare from without a network")
    num_threads: int = _field(16, "folder/, tfds:NAME, imagenet2012: threads of each process that decode")

    @property
    def title(self) -> str:
        """What figures and run folders call it: of a path its last part."""
        return re.sub("[:$]", "-", os.path.basename(os.path.abspath(self.name)))  # $ is mathematics in a figure


@dataclasses.dataclass
class Model:
    """What is trained."""

    name: str = _field("cnn", "mlp, cnn, preact_resnet18, wrn, resnet50 or vit, or your own: MODULE:FUNCTION")
    width: int = _field(0, "units, channels of the first layer, k of WRN-n-k, or embedding size; 0: the model's own")
    depth: int = _field(0, "layers of mlp, n of WRN-n-k, blocks of vit; 0: the model's own")
    patch_size: int = _field(4, "vit: side of the patches in pixels")
    final_norm: bool = _field(True, "preact_resnet18, wrn: normalisation and ReLU before the pooling")
    dtype: str = _field("float32", "what is computed in: float32 or bfloat16; parameters are float32")


@dataclasses.dataclass
class Mix:
    """How samples are mixed; each device mixes its own share of the batch."""

    policy: str = _field(
        "kmixup(k=8, alpha=1.0)",
        "what is mixed, as of jaxmix.policy; erm: nothing; or an objective: dense_multimix, transmix, "
        "approximate_mixup, linearized_mixup",
    )
    space: str = _field(
        "inputs", "where: inputs, embeddings, logits, or layers (one of the inputs and stages, drawn at each step)"
    )
    label_smoothing: float = _field(0.0, "share of each label, before mixing, that goes to all classes alike")
    clean_weight: float = _field(
        0.0, "of unmixed samples' loss, which is added; where inputs are mixed, a step computes twice as many"
    )
    clean_epochs: int = _field(0, "last epochs, which mix nothing")
    vae: str = _field("", "for varmixup(...), reconstructed(...) and in_latent_space(...): run folder of train.vae")


@dataclasses.dataclass
class Optimizer:
    """How the parameters follow the gradient."""

    name: str = _field("adamw", "adamw, or sgd with momentum and coupled weight decay")
    learning_rate: float = _field(3e-3, "peak learning rate")
    weight_decay: float = _field(1e-4, "of all parameters")
    decay_vectors: bool = _field(
        True, "False: biases, and all parameters of rank 1 or less such as norms', do not decay"
    )
    momentum: float = _field(0.9, "sgd: momentum")
    schedule: str = _field("cosine", "of the learning rate: cosine (to 0), steps or constant")
    warmup_epochs: float = _field(1.0, "epochs in which the learning rate rises from 0, at most half of all")
    milestones: tuple[int, ...] = _field((), "steps: epochs after which the learning rate is divided by 10")
    clip_norm: float = _field(0.0, "the largest norm of the gradient of all parameters, longer ones are cut; 0: any")
    accumulate: int = _field(1, "parts that a step computes its batch in, one after the other, each mixed by itself")
    ema: float = _field(
        0.0, "decay of a moving average of the parameters, such as 0.999, measured beside them; 0: none"
    )


@dataclasses.dataclass
class Config:
    """Everything that determines a run, bit for bit on a given device count."""

    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    mix: Mix = dataclasses.field(default_factory=Mix)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    num_epochs: int = _field(40, "passes over the training data")
    seed: int = _field(0, "of the parameters, the data order, augmentation and mixing")
    checkpoint_steps: int = _field(200, "steps between checkpoints; there is one at the end, too")
    eval_epochs: int = _field(1, "epochs between measurements of the test or validation split; the last has one, too")
    keep_best: str = _field("", "by which the best checkpoint is kept, too: accuracy, nll, ema_accuracy or ema_nll")

    @property
    def title(self) -> str:
        """What a figure is headed by."""
        space = "" if self.mix.space == "inputs" else f" of {self.mix.space}"
        return f"{self.data.title}, {self.model.name}, {self.mix.policy}{space}, seed {self.seed}"


@dataclasses.dataclass
class Autoencoder:
    """A VAE, and what holds its latents to their prior."""

    latent_size: int = _field(64, "numbers that an image becomes")
    widths: tuple[int, ...] = _field((32, 64, 128), "channels after each halving of the image")
    mmd_weight: float = _field(100.0, "of the squared MMD to the prior, against the squared error summed over pixels")
    kl_weight: float = _field(0.0, "of the KL divergence in nats; 1 with mmd_weight=0 is a plain VAE")
    kernel: str = _field("gaussian", "of the MMD: gaussian or inverse_multiquadric")


@dataclasses.dataclass
class VaeConfig:
    """Everything that determines the training of a VAE, bit for bit on a given device count."""

    data: Data = dataclasses.field(default_factory=Data)
    vae: Autoencoder = dataclasses.field(default_factory=Autoencoder)
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(weight_decay=0.0))
    num_epochs: int = _field(40, "passes over the training data")
    seed: int = _field(0, "of the parameters, the data order, augmentation and samples")
    checkpoint_steps: int = _field(200, "steps between checkpoints; there is one at the end, too")
    eval_epochs: int = _field(1, "epochs between measurements of the test or validation split; the last has one, too")
    judge_epochs: int = _field(10, "of the classifier whose accuracy on reconstructions is reported; 0 leaves it out")

    @property
    def title(self) -> str:
        """What a figure is headed by."""
        return f"{self.data.title}, VAE of {self.vae.latent_size} latents, seed {self.seed}"


# These change no parameter, and may change on resuming: where things lie, how often they are measured, what is kept.
INCIDENTAL = (
    *("data.data_dir", "data.manual_dir", "data.num_threads"),
    *("checkpoint_steps", "eval_epochs", "keep_best", "judge_epochs"),
)


def fingerprint(config: Any) -> str:
    """A hash of what determines a run; fields that are added later, with their defaults, do not change it."""
    defaults = {name: value for name, value, _ in leaves(type(config)())}
    chosen = {name: value for name, value, _ in leaves(config) if name not in INCIDENTAL and value != defaults[name]}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def read(path: pathlib.Path, kind: type[Kind]) -> Kind:
    """The configuration that a run left in its config.json."""
    try:
        return from_tree(kind, json.loads(path.read_text()))
    except OSError:
        raise UsageError(f"{path.parent} holds no run: {path.name} is missing") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not of this version of the program: {error}") from None


def from_tree(kind: Any, tree: dict[str, Any]) -> Any:
    """A configuration, or part of one, from its fields as JSON has them; those that are missing have their defaults."""
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
    """Name, value and description of every field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, field.metadata["doc"]


def known(kind: str, name: str, names: Sequence[str], *, prefix: str = "") -> None:
    """Raises a UsageError that names the nearest alternative, or all of them, unless the name is known."""
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        advice = f"did you mean {prefix}{nearest[0]}?" if nearest else f"take one of {', '.join(names)}"
        raise UsageError(f"unknown {kind} {prefix}{name}: {advice}")
