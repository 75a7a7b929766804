"""The configuration of a run, and how it is read from files and flags."""

from collections.abc import Iterator, Sequence
import dataclasses
import difflib
import importlib.util
import pathlib
from typing import Any

from absl import flags
from ml_collections import config_flags

CONFIGS = pathlib.Path(__file__).parent / "configs"


class UsageError(Exception):
    """A mistake of the user's: programs end with exit code 2 and this one line."""


def _field(default: Any, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclasses.dataclass
class Data:
    """What is learnt from."""

    name: str = _field("digits", "data set")
    batch_size: int = _field(128, "samples per step, over all devices")


@dataclasses.dataclass
class Model:
    """What is trained."""

    name: str = _field("cnn", "architecture")
    width: int = _field(32, "channels of the first layer")


@dataclasses.dataclass
class Mix:
    """How the inputs are mixed; each device mixes its own share of the batch."""

    method: str = _field("kmixup", "erm (none), mixup, cutmix or kmixup")
    alpha: float = _field(1.0, "concentration of the ratio's Beta, > 0")
    k: int = _field(8, "kmixup: size of the groups; divides the batch of one device at least twice")
    solver: str = _field("sinkhorn", "kmixup: sinkhorn or exact")
    probability: float = _field(1.0, "chance of a sample to be mixed at all")
    shared: bool = _field(False, "one ratio and mask for the whole batch of a device")


@dataclasses.dataclass
class Optimizer:
    """Adam with decoupled weight decay, its rate warmed up over one epoch and then a cosine to 0."""

    learning_rate: float = _field(3e-3, "peak learning rate")
    weight_decay: float = _field(1e-4, "decoupled weight decay")


@dataclasses.dataclass
class Config:
    """Everything that determines a run, bit for bit on a given device count."""

    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    mix: Mix = dataclasses.field(default_factory=Mix)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    num_epochs: int = _field(40, "passes over the training data")
    seed: int = _field(0, "of the parameters, the data order and the mixing")


def parse(argv: Sequence[str], usage: str) -> tuple[Config, pathlib.Path | None]:
    """Reads --config, --config.<field> and --workdir.

    Args:
      argv: the arguments without the program's name.
      usage: what --help says before it lists the flags.

    Returns:
      The configuration, and the run folder where one was named.

    Raises:
      UsageError: if a flag, file, field or value is not known or not valid.
      SystemExit: with code 0, after --help.
    """
    path = _config_path(argv)
    config = _load(path)
    if {"-h", "--help"} & set(argv):
        print(_help(usage, path, config))
        raise SystemExit(0)
    fields = {f"config.{name}": None for name, _, _ in _leaves(config)}
    for argument in argv:
        name = argument.lstrip("-").split("=")[0]
        if not argument.startswith("-") or "=" not in argument:
            raise UsageError(f"cannot read {argument!r}: write flags as --name=value (see --help)")
        known("flag", name, ["config", "workdir", *fields], prefix="--")
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    overrides = [argument for argument in argv if not argument.lstrip("-").startswith("config=")]
    config_flags.DEFINE_config_dataclass("config", config, "", flag_values=values, sys_argv=["train", *overrides])
    try:
        values(["train", *overrides])
    except flags.Error as error:
        raise UsageError(str(error)) from None
    return values.config, pathlib.Path(values.workdir) if values.workdir else None


def known(kind: str, name: str, names: Sequence[str], *, prefix: str = "") -> None:
    """Raises a UsageError that names the nearest alternative, or all of them, unless the name is known."""
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        advice = f"did you mean {prefix}{nearest[0]}?" if nearest else f"take one of {', '.join(names)}"
        raise UsageError(f"unknown {kind} {prefix}{name}: {advice}")


def _config_path(argv: Sequence[str]) -> pathlib.Path:
    named = [argument.split("=", 1)[1] for argument in argv if argument.lstrip("-").startswith("config=")]
    return pathlib.Path(named[-1]) if named else CONFIGS / "digits.py"


def _load(path: pathlib.Path) -> Config:
    if not path.is_file():
        shipped = sorted(str(CONFIGS.relative_to(CONFIGS.parents[1]) / file.name) for file in CONFIGS.glob("*.py"))
        known("config", str(path), shipped)
        raise UsageError(f"no config {path} in this folder: run from the root of the checkout")
    spec = importlib.util.spec_from_file_location("run_config", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"config {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:  # of the user's own file
        raise UsageError(f"config {path}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    if not isinstance(config, Config):
        raise UsageError(f"config {path} needs a function get_config() that returns a train.config.Config")
    return config


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, value and description of every field."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, field.metadata["doc"]


def _help(usage: str, path: pathlib.Path, config: Config) -> str:
    lines = [
        usage.strip(),
        "",
        "  --config=FILE      a Python file with get_config(), such as those in train/configs/",
        "  --workdir=FOLDER   the run folder (a new one under runs/ unless given)",
        "",
        f"Fields of {path.name}, each to be changed by its flag:",
        "",
    ]
    for name, value, doc in _leaves(config):
        lines.append(f"  --config.{name}={value}".ljust(38) + f"  {doc}")
    return "\n".join(lines)
