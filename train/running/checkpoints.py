"""Saves and restores the state of a run and the means of its data, in all processes together."""

from collections.abc import Mapping
import functools
import math
import pathlib
import shutil
from typing import Any

import jax
from orbax import checkpoint

from train.data import Means
from train.errors import CheckpointError, UnwritableError, UsageError, line
from train.learning.steps import TrainState
from train.running import best, manifest, parallel, run_folder

Metrics = list[dict[str, float]]
"""Of each step."""


class Checkpoints:
    """The checkpoints of a run, in <folder>/<step>: the newest two and, with keep_best, the best.

    A rename makes a checkpoint visible when its files and its manifest are written. The newest whole
    checkpoint is restored. Broken ones are skipped, with one line each.

    Args:
      folder: the folder of all checkpoints.
      fingerprint: fingerprint of the run's configuration.
      writes: whether to save here, and so to rename broken checkpoints.
      keep_best: measure of the validation split that chooses the best checkpoint, the first on a tie; a reader
        restores that one instead of the newest.

    Attributes:
      step: step of the restored checkpoint; 0 if there is none.
      best: step of the best checkpoint; 0 if there is none.

    Raises:
      CheckpointError: if there are checkpoints, but none is whole.
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str = "", *, writes: bool = False, keep_best: str = ""):
        self._folder, self._fingerprint, self._keep_best = folder.resolve(), fingerprint, keep_best
        self.best, self._score = 0, -math.inf
        if writes:
            parallel.in_leader(functools.partial(_tidy, self._folder, thoroughly=bool(keep_best)))
            self.step = parallel.agreed(max(_steps(self._folder), default=0), "the newest whole checkpoint")
            self._find_best(_steps(self._folder))
            parallel.agreed(self.best, "the best checkpoint")
        elif keep_best:
            self._find_best([step for step in _steps(self._folder) if not _is_broken(self._folder / str(step))])
            self.step = self.best
        else:
            self.step, _ = _newest(self._folder)

    def improves(self, measured: Mapping[str, float]) -> bool:
        """Returns whether measures of the validation split beat the best checkpoint; False if none is kept."""
        score = best.score(self._keep_best, measured)
        return score is not None and score > self._score

    def save(self, state: TrainState, metrics: Metrics, means: Means, measured: Mapping[str, float]) -> None:
        """Writes a state, its epoch's metrics so far and the means of its data; returns once they are on disk.

        Args:
          state: the same in all processes.
          metrics: metrics of the steps of the current epoch.
          means: means of the training split.
          measured: measures of the validation split, at the end of an epoch.

        Raises:
          UnwritableError: if the disk is not writable; earlier checkpoints stay as they are.
        """
        step = int(state.step)
        partial = self._folder / f"saving-{step}"
        tree = _tree(state)
        arguments = checkpoint.args.Composite(
            state=checkpoint.args.StandardSave(tree),
            metrics=checkpoint.args.JsonSave(metrics),
            means=checkpoint.args.StandardSave(parallel.to_global(means)._asdict()),
        )
        try:
            with _orbax() as orbax:
                orbax.save(partial, args=arguments)
            if self.improves(measured):
                self._rank(step, measured)
            parallel.in_leader(functools.partial(self._publish, partial, tree, step, measured))
        except (OSError, ValueError) as error:  # tensorstore has no error of its own for a full disk
            raise UnwritableError(
                f"the checkpoint of step {step} cannot be written, {line(error)}: "
                f"free some space, and the same command continues from step {self.step}"
            ) from None
        self.step = step

    def restore(self, like: TrainState, *, allow_config_change: bool = True) -> TrainState:
        """Restores the newest state, placed like another of the same shapes and dtypes.

        Raises:
          UsageError: if there is none, or if it has other shapes or dtypes, or another configuration.
        """
        wanted = _tree(like)
        content = manifest.read(self._path())
        comparable = "measured" in content  # manifests of before have a hash of other fields
        if comparable and not allow_config_change and content["config"] != self._fingerprint:
            raise UsageError(
                f"the checkpoint {self._path()} was saved under another configuration: "
                "continue anyway with --allow_config_change"
            )
        self._check_fit(content["tree"], manifest.tree(wanted))
        abstract = jax.tree.map(checkpoint.utils.to_shape_dtype_struct, wanted)
        return parallel.to_local(TrainState(**self._read("state", checkpoint.args.StandardRestore(abstract))))

    def metrics(self) -> Metrics:
        """Returns the metrics that were saved with the newest state."""
        return self._read("metrics", checkpoint.args.JsonRestore())

    def means(self, like: Means) -> Means:
        """Returns the means of the data that the newest state was trained on, shaped like others."""
        return Means(**self._read("means", checkpoint.args.StandardRestore(like._asdict())))

    def _path(self) -> pathlib.Path:
        if not self.step:
            what = f"whose {self._keep_best} was measured on a validation split" if self._keep_best else "yet"
            raise UsageError(f"{self._folder.parent} has no checkpoint {what}")
        return self._folder / str(self.step)

    def _read(self, item: str, arguments: checkpoint.args.CheckpointArgs) -> Any:
        with _orbax() as orbax:
            restored: Any = orbax.restore(self._path(), args=checkpoint.args.Composite(**{item: arguments}))
        return restored[item]

    def _check_fit(self, there: dict[str, list[Any]], here: dict[str, list[Any]]) -> None:
        """Raises a UsageError where arrays differ, or are on one side only."""
        names = [name for name in there | here if there.get(name) != here.get(name)]
        names.sort(key=lambda name: not name.startswith("params/"))  # moments follow them
        if names:
            pairs = [f"{name} is {_shape(there.get(name))} there and {_shape(here.get(name))} here" for name in names]
            more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
            raise UsageError(f"{self._path()} does not fit: {'; '.join(pairs[:3])}{more}: name another folder")

    def _find_best(self, steps: list[int]) -> None:
        """Goes through whole checkpoints in their order; those from before there were measures have none."""
        for step in sorted(steps) if self._keep_best else ():
            measured = manifest.read(self._folder / str(step)).get("measured", {})
            if self.improves(measured):
                self._rank(step, measured)

    def _rank(self, step: int, measured: Mapping[str, float]) -> None:
        self.best, self._score = step, best.score(self._keep_best, measured) or 0.0

    def _publish(self, partial: pathlib.Path, state: Any, step: int, measured: Mapping[str, float]) -> None:
        described = manifest.describe(partial, state)
        origin = {"config": self._fingerprint, "versions": run_folder.versions(), "measured": dict(measured)}
        run_folder.write_json(partial / manifest.NAME, described | origin)
        partial.rename(self._folder / str(step))
        for older in _steps(self._folder):
            if older < self.step and older != self.best:
                shutil.rmtree(self._folder / str(older))


def _tree(state: TrainState) -> dict[str, Any]:
    """What is saved: all fields, but for an average that is not kept, which older checkpoints do not know."""
    tree = parallel.to_global(state)._asdict()
    return tree if state.ema else {name: part for name, part in tree.items() if name != "ema"}


def _orbax() -> checkpoint.Checkpointer:
    return checkpoint.Checkpointer(checkpoint.CompositeCheckpointHandler())


def _steps(folder: pathlib.Path) -> list[int]:
    """Whose checkpoints there are, whole or not, newest first."""
    return sorted((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), reverse=True)


def _newest(folder: pathlib.Path) -> tuple[int, list[pathlib.Path]]:
    """The step of the newest whole checkpoint, 0 where there is none, and those after it, which are broken."""
    broken: list[pathlib.Path] = []
    for step in _steps(folder):
        path = folder / str(step)
        if not _is_broken(path):
            return step, broken
        broken.append(path)
    if broken:
        raise CheckpointError(f"none of the checkpoints in {folder} is whole: start again in another folder")
    return 0, []


def _is_broken(path: pathlib.Path) -> bool:
    """Whether a checkpoint does not count; says why."""
    if fault := manifest.fault(path):
        print(f"passing over the checkpoint {path}: {fault}", flush=True)
    return bool(fault)


def _tidy(folder: pathlib.Path, *, thoroughly: bool) -> None:
    """Renames broken checkpoints, so that nothing takes them for whole ones, and removes what was never finished.

    Those before the newest whole one are looked at only where one of them may be the best.
    """
    newest, broken = _newest(folder)
    older = [folder / str(step) for step in _steps(folder) if step < newest] if thoroughly else []
    for path in (*broken, *filter(_is_broken, older)):
        names = (path.with_name(f"broken-{path.name}{suffix}") for suffix in ("", *(f"-{i}" for i in range(2, 100))))
        path.rename(next(name for name in names if not name.exists()))
    for path in folder.glob("saving-*"):
        shutil.rmtree(path)


def _shape(signature: list[Any] | None) -> str:
    return f"{tuple(signature[0])} of {signature[1]}" if signature else "missing"
