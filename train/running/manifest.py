"""Lists the files of a checkpoint in a manifest; a checkpoint is whole if its files match."""

import hashlib
import json
import pathlib
from typing import Any

import jax

NAME = "manifest.json"


def describe(folder: pathlib.Path, state: Any) -> dict[str, Any]:
    """The files that are in a folder, and the state, a tree of arrays, that they hold."""
    return {"files": digests(folder), "tree": tree(state)}


def fault(folder: pathlib.Path) -> str:
    """Why a checkpoint does not count, empty where it does."""
    try:
        there, written = digests(folder), read(folder)["files"]
    except FileNotFoundError:
        return "no manifest"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"unreadable, {error}"
    missing, added = sorted(set(written) - set(there)), sorted(set(there) - set(written))
    changed = [name for name in there if name in written and there[name] != written[name]]
    for what, names in (("is missing", missing), ("is not its own", added), ("is not what was written", changed)):
        if names:
            return f"{names[0]} {what}"
    return ""


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What was written."""
    return json.loads((folder / NAME).read_text())


def tree(state: Any) -> dict[str, list[Any]]:
    """Shape and dtype of each array, by its path."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): _signature(leaf) for path, leaf in leaves}


def _signature(leaf: Any) -> list[Any]:
    return [list(leaf.shape), str(leaf.dtype)]


def digests(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file but the manifest, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
