"""A run folder: its configuration, the lock of the process that writes it, and its metrics."""

import contextlib
import dataclasses
import fcntl
import functools
from importlib import metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import IO, Any

import jax

from train.config import INCIDENTAL, leaves, read
from train.errors import InUseError, UnwritableError, UsageError
from train.running import manifest

Row = dict[str, Any]

LOCK, CONFIG, ENVIRONMENT, METRICS = "lock", "config.json", "environment.json", "metrics.jsonl"


def claim(folder: pathlib.Path, config: Any, *, digest: str = "", allow_change: bool = False) -> IO[str]:
    """Makes the folder of a new run, or checks that it contains the run to resume.

    Args:
      folder: the run folder.
      config: the run's configuration.
      digest: digest of a user's own data, else empty.
      allow_change: whether the run in the folder may have another configuration or other data.

    Returns:
      The folder's lock. Close it at the end of the run; it also ends with the process.

    Raises:
      UsageError: if the folder contains other files or another run.
      InUseError: if another program has the lock.
      UnwritableError: if the program cannot write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_own(folder)
        with contextlib.ExitStack() as unless_claimed:
            lock = unless_claimed.enter_context(_lock(folder))
            if (folder / CONFIG).exists():
                _check_same(folder, config, allow_change)
                _check_data(folder, config.data.name, digest, allow_change)
            write_json(folder / ENVIRONMENT, environment() | ({"data": digest} if digest else {}))
            write_json(folder / CONFIG, dataclasses.asdict(config))  # last: it marks the folder as a run's
            unless_claimed.pop_all()
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{folder} is not a folder: name one by --workdir") from None
    except OSError as error:
        raise UnwritableError(f"cannot write the run folder {folder}: {error.strerror}") from None
    return lock


def check(folder: pathlib.Path, config: Any, *, digest: str = "", allow_change: bool = False) -> None:
    """Raises a UsageError where claim would; writes nothing."""
    if (folder / CONFIG).exists():
        _check_same(folder, config, allow_change)
        _check_data(folder, config.data.name, digest, allow_change)
    elif folder.is_dir():
        _check_own(folder)
    elif folder.exists():
        raise UsageError(f"{folder} is not a folder: name one by --workdir")


def _check_own(folder: pathlib.Path) -> None:
    """Raises a UsageError where a folder has files, and not from a run, or one that was killed at its start."""
    begun = {LOCK, ENVIRONMENT, *(path.name for path in folder.glob("*.partial"))}
    if not (folder / CONFIG).exists() and {path.name for path in folder.iterdir()} - begun:
        raise UsageError(f"{folder} contains something other than a run: name another folder by --workdir")


def _lock(folder: pathlib.Path) -> IO[str]:
    file = (folder / LOCK).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InUseError(f"{folder} is in use by another run: wait until that ends, or name another folder") from None
    except OSError:
        print(f"the file system of {folder} has no locks: make sure that no other run writes there", flush=True)
    return file


def check_seen(folder: pathlib.Path) -> None:
    """Raises a UsageError in a process that does not see what the leading one has written."""
    if not (folder / CONFIG).exists():
        raise UsageError(f"{folder} is not the run folder of all processes: name one on storage that they share")


def finished(folder: pathlib.Path, config: Any) -> Row | None:
    """The metrics of the last epoch where this run has ended in this folder, its last checkpoint whole, else None."""
    if not (folder / CONFIG).exists():
        return None
    _check_same(folder, config)
    measured = rows(folder)
    ended = measured and measured[-1]["epoch"] == config.num_epochs
    return measured[-1] if ended and not manifest.fault(folder / "checkpoints" / str(measured[-1]["step"])) else None


def rows(folder: pathlib.Path) -> list[Row]:
    """The metrics of each epoch but for a torn last line; none of a run that has measured nothing."""
    path, found = folder / METRICS, []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def keep_rows_until(folder: pathlib.Path, step: int) -> list[Row]:
    """Drops what a stopped run measured after its last checkpoint, a torn last line included, and returns the rest."""
    kept = [row for row in rows(folder) if row["step"] <= step]
    if (folder / METRICS).exists():
        _replace(folder / METRICS, "".join(json.dumps(row) + "\n" for row in kept))
    return kept


def add_row(folder: pathlib.Path, row: Row) -> None:
    """Adds the metrics of an epoch."""
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def write_json(path: pathlib.Path, content: Any) -> None:
    """All or nothing."""
    _replace(path, json.dumps(content, indent=2) + "\n")


def _replace(path: pathlib.Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _check_same(folder: pathlib.Path, config: Any, allow_change: bool = False) -> None:
    """Raises a UsageError where the run in a folder is another one; a field that it does not know had its default."""
    before = {name: value for name, value, _ in leaves(read(folder / CONFIG, type(config)))}
    now = {name: value for name, value, _ in leaves(config)}
    changed = [name for name in now if name not in INCIDENTAL and before[name] != now[name]]
    if changed:
        difference = ", ".join(f"{name}={before[name]} there and {now[name]} here" for name in changed)
        if not allow_change:
            raise UsageError(
                f"{folder} has another run, with {difference}: name another folder by --workdir, "
                "or continue anyway with --allow_config_change"
            )
        print(f"continuing with a changed configuration, {difference}", flush=True)
    devices = json.loads((folder / ENVIRONMENT).read_text())["devices"]
    if devices != environment()["devices"]:
        print(f"this run was on {devices}; partners depend on the devices, so it will end with other numbers")


def _check_data(folder: pathlib.Path, name: str, digest: str, allow_change: bool) -> None:
    """Raises a UsageError where a user's own data are others than those of the run in a folder."""
    if not data_changed(folder, digest):
        return
    if not allow_change:
        raise UsageError(
            f"{folder} has a run on other data, since {name} has changed: restore the data, name another folder "
            "by --workdir, or continue anyway with --allow_config_change"
        )
    print(f"continuing with changed data, {name}", flush=True)


def data_changed(folder: pathlib.Path, digest: str) -> bool:
    """Whether a user's own data have another digest than those that the run in a folder was last trained on."""
    path = folder / ENVIRONMENT
    before = json.loads(path.read_text()).get("data", "") if path.exists() else ""
    return bool(before and digest != before)


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "ott-jax", "orbax-checkpoint")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


@functools.cache
def commit() -> str:
    """Of the checkout that this module lies in, "-dirty" where files have changed; empty where there is none."""
    describe = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment() -> dict[str, str]:
    """Versions, devices, and the commit."""
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} process(es)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    host = f"{platform.machine()}, {cores} core(s)"
    return {**versions(), "devices": devices, "host": host, "commit": commit()}
