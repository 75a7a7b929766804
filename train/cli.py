"""Reads configurations from files and flags."""

import argparse
from collections.abc import Sequence
import difflib
import importlib.util
import pathlib
import shlex
from typing import Any, NamedTuple, NoReturn, TypeVar

from absl import flags
from ml_collections import config_flags

from train import flat_mix
from train.config import Config, known, leaves
from train.errors import UsageError, line

Kind = TypeVar("Kind")

CONFIGS = pathlib.Path(__file__).parent / "configs"
SWITCHES = ("allow_config_change", "distributed", "dry_run")
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}


class Parser(argparse.ArgumentParser):
    """Parses the flags of programs without a configuration, and raises mistakes as UsageErrors of one line."""

    def __init__(self, usage: str):
        super().__init__(
            description=usage.strip(),
            usage=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises the mistake as a UsageError."""
        raise UsageError(f"{message} (see --help)")


class Arguments(NamedTuple):
    """The arguments of the command line."""

    config: Any
    workdir: pathlib.Path | None
    allow_config_change: bool
    distributed: bool
    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    dry_run: bool
    profile_steps: range


def parse(
    argv: Sequence[str],
    usage: str,
    *,
    kind: type[Any] = Config,
    function: str = "get_config",
    default: pathlib.Path = CONFIGS / "digits.py",
) -> Arguments:
    """Reads --config, --config.<field>, --workdir, the flags of a cluster and the rest of Arguments.

    Args:
      argv: the arguments without the program's name.
      usage: the text that --help prints before the flags.
      kind: the class of configurations.
      function: the function of a configuration file that returns one.
      default: the configuration file to read without --config.

    Returns:
      The configuration, the run folder if there is one, and the other flags.

    Raises:
      UsageError: if a flag, file, field or value is unknown or invalid.
      SystemExit: with code 0, after --help.
    """
    named = [argument.split("=", 1)[1] for argument in argv if argument.lstrip("-").startswith("config=")]
    path = pathlib.Path(named[-1]) if named else default
    config = load(path, function, kind)
    if {"-h", "--help"} & set(argv):
        print(_help(usage, path, function, config))
        raise SystemExit(0)
    fields = [f"config.{name}" for name, _, _ in leaves(config)]
    for argument in argv:
        name = argument.lstrip("-").split("=")[0]
        if not argument.startswith("-") or ("=" not in argument and name not in SWITCHES):
            raise UsageError(f"cannot read {argument!r}: write flags as --name=value (see --help)")
        inside = [field for field in fields if field.startswith((f"{name}.", f"config.{name}."))]
        if inside and name != "config":
            raise UsageError(f"--{name} has fields of its own: give one of --{', --'.join(inside)}")
        if name.removeprefix("config.mix.") in flat_mix.FIELDS and "config.mix.policy" in fields:
            raise UsageError(f"--{name} is part of the policy, such as --config.mix.policy='cutmix(alpha=0.4)'")
        _known(name, ["config", *Arguments._fields[1:], *fields])
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    for name in SWITCHES:
        flags.DEFINE_bool(name, False, "", flag_values=values)
    flags.DEFINE_string("profile_steps", "", "", flag_values=values)
    flags.DEFINE_string("coordinator", None, "", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "", flag_values=values)
    flags.DEFINE_integer("process_id", None, "", flag_values=values)
    overrides = [argument for argument in argv if not argument.lstrip("-").startswith("config=")]
    config_flags.DEFINE_config_dataclass("config", config, "", flag_values=values, sys_argv=["train", *overrides])
    try:
        values(["train", *overrides])
    except flags.Error as error:
        kinds: dict[str, type] = {"num_processes": int, "process_id": int} | dict.fromkeys(SWITCHES, bool)
        kinds |= {f"config.{name}": type(value) for name, value, _ in leaves(config)}
        for given in (argument.lstrip("-") for argument in overrides):
            expected = EXPECTED.get(kinds.get(given.split("=")[0], object))
            if expected and str(error).startswith(f"flag --{given}: "):
                raise UsageError(f"--{given}: give {expected}") from None
        raise UsageError(str(error)) from None
    for name, value, _ in leaves(values.config):
        if isinstance(value, tuple) and not all(isinstance(item, int | float) for item in value):
            raise UsageError(f"--config.{name}={value}: give numbers, such as (1,) or (1, 2)")
    explicit = (values.coordinator, values.num_processes, values.process_id)
    if any(flag is not None for flag in explicit) and None in explicit:
        raise UsageError("--coordinator, --num_processes and --process_id go together: give all three or none")
    if "://" in (values.workdir or ""):
        raise UsageError(f"--workdir={values.workdir}: mount that storage, and name a folder in the file system")
    workdir = pathlib.Path(values.workdir).expanduser() if values.workdir else None
    profiled = _steps(values.profile_steps) if values.profile_steps else range(0)
    return Arguments(
        values.config,
        workdir,
        values.allow_config_change,
        values.distributed,
        *explicit,
        dry_run=values.dry_run,
        profile_steps=profiled,
    )


def _known(name: str, names: Sequence[str]) -> None:
    """Raises a UsageError for an unknown flag, which names the nearest flag by the last part, then by the whole."""
    if name in names:
        return

    def nearness(other: str) -> tuple[float, float]:
        given, part = (path.rpartition(".")[2].replace("-", "_") for path in (name, other))
        initials = "".join(word[:1] for word in part.split("_"))  # such as lr
        last = 1.0 if given == initials else difflib.SequenceMatcher(None, given, part).ratio()
        return last, difflib.SequenceMatcher(None, name, other).ratio()

    nearest = max(names, key=nearness)
    advice = f"did you mean --{nearest}?" if nearness(nearest)[0] >= 0.6 else "see --help"
    raise UsageError(f"unknown flag --{name}: {advice}")


def _steps(text: str) -> range:
    """Parses a range of steps: 10:20 is the ten steps after the tenth."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"--profile_steps={text}: give two numbers, such as 10:20 for the ten steps after the tenth")
    return range(int(first), int(last))


def load(path: pathlib.Path, function: str, kind: type[Kind]) -> Kind:
    """Calls a function of a configuration file.

    Args:
      path: the Python file.
      function: the function's name, such as get_config.
      kind: the type that it must return.

    Returns:
      The function's result.

    Raises:
      UsageError: if there is no such file or function, or it returns another type.
    """
    if not path.is_file():
        files = [file for file in CONFIGS.glob("*.py") if f"def {function}(" in file.read_text()]
        known("config", str(path), sorted(str(file.relative_to(CONFIGS.parents[1])) for file in files))
        raise UsageError(f"no config {path} in this folder: run from the root of the checkout")
    spec = importlib.util.spec_from_file_location("run_config", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"config {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = getattr(module, function)() if hasattr(module, function) else None
    except Exception as error:  # of the user's own file
        raise UsageError(f"config {path}: {line(error, typed=True)}") from None
    if not isinstance(config, kind):
        raise UsageError(
            f"config {path} needs a function {function}() that returns a {kind.__module__}.{kind.__name__}"
        )
    return config


def _help(usage: str, path: pathlib.Path, function: str, config: Any) -> str:
    lines = [
        usage.strip(),
        "",
        f"  --config=FILE      a Python file with {function}(), such as those in train/configs/",
        "  --workdir=FOLDER   the run folder (by default a new one in runs/); a run that was stopped",
        "                     there is resumed",
        "  --allow_config_change",
        "                     resume even if the run has another configuration",
        "  --dry_run          check everything, print the configuration, the model's layers and the",
        "                     steps to come, and stop",
        "  --profile_steps=10:20",
        "                     write a profile of the ten steps after the tenth to profile/ in the run",
        "                     folder, for XProf or Perfetto",
        "",
        "For several processes, each with its own devices and all with the same run folder (JAX",
        "recognises TPU pods and SLURM from the environment):",
        "",
        "  --distributed      let JAX find the cluster",
        "  --coordinator=HOST:PORT --num_processes=N --process_id=I",
        "                     or describe it",
        "",
        f"Fields of the configuration, with the defaults of {path.name}, each with its flag:",
        "",
    ]
    for name, value, doc in leaves(config):
        text = shlex.quote(str(value)) if value != "" else ""
        lines.append(f"  --config.{name}={text}".ljust(46) + f"  {doc}")
    return "\n".join(lines)
