"""Finds runs whose numbers a record already has, so that a comparison can continue on another machine."""

from collections.abc import Callable, Mapping, Sequence
import hashlib
import json
import pathlib
import time
from typing import Any

from train.comparing.design import Results, Run
from train.config import INCIDENTAL, leaves


def kept_in(record: Results) -> dict[str, dict[str, Any]]:
    """What a record has of runs, by their keys; older records have none."""
    tried = (run for entry in record.get("selection", ()) for one in entry["candidates"] for run in one.get("runs", ()))
    return {run["key"]: run for run in (*record.get("kept", ()), *record.get("runs", ()), *tried) if "key" in run}


def key_of(run: Run, measured: str, digests: Sequence[str] = ()) -> str:
    """What tells a run and how it is measured from all others, wherever its data lie; partners depend on the devices.

    Args:
      run: of a comparison.
      measured: how it is measured.
      digests: of a user's own data and of a VAE; where they lie does not count then.
    """
    import jax

    places = dict(zip(("data.name", "mix.vae"), digests, strict=False))
    where = {*INCIDENTAL} | {name for name, digest in places.items() if digest}
    fields = sorted((name, value) for name, value, _ in leaves(run.config) if name not in where)
    text = json.dumps([fields, measured, list(digests), jax.device_count()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Kept:
    """Runs that a record has already, and how others come to it."""

    def __init__(self, record: Results, digests: Mapping[str, str], workdir: pathlib.Path) -> None:
        """Takes a record, the digests of data by their titles, and where runs lie."""
        self.runs, self.digests, self.workdir = kept_in(record), digests, workdir
        self.used: set[str] = set()

    def get(self, run: Run, measured: str, keys: tuple[str, ...], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the record says of a run, where it has all that is asked for; else that is made.

        What is made says where and when: its commit, its environment, and its date, those of the run's folder.
        """
        from train.running import run_folder

        data, vae = self.digests.get(run.dataset, ""), run.config.mix.vae
        key = key_of(run, measured, (data, _content(pathlib.Path(vae)) if vae else ""))
        entry = self.runs.get(key, {})
        if not {*keys} <= {*entry, *entry.get("values", ())}:
            made = make()
            path = run.folder(self.workdir) / run_folder.ENVIRONMENT
            found = json.loads(path.read_text()) if path.exists() else {}
            date = time.strftime("%Y-%m-%d", time.localtime(path.stat().st_mtime)) if path.exists() else ""
            where = {name: found.get(name, "") for name in ("commit", "jax", "devices", "host")}
            entry = {"key": key, **made, **where, "date": date}
        self.used.add(key)
        return entry

    def others(self) -> list[dict[str, Any]]:
        """Runs of the record that were not asked for, as of methods that are compared no longer."""
        return [run for key, run in self.runs.items() if key not in self.used]


def _content(folder: pathlib.Path) -> str:
    """A digest of a run folder's newest checkpoint, by its manifest."""
    manifests = sorted((folder / "checkpoints").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    return hashlib.sha256(manifests[-1].read_bytes()).hexdigest() if manifests else ""
