"""Saves and restores the state of a run, in all processes together, and with it the means of its data."""

import pathlib
from typing import Any

import jax
from orbax import checkpoint

from train import parallel
from train.data import Means
from train.steps import TrainState

Metrics = list[dict[str, float]]
"""Of each step."""


class Checkpoints:
    """The checkpoints of a run, in <folder>/<step>; the newest two are kept."""

    def __init__(self, folder: pathlib.Path):
        options = checkpoint.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = checkpoint.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: TrainState, metrics: Metrics, means: Means) -> None:
        """Writes a state, its epoch's metrics so far and the means of its data; returns once they are on disk."""
        arguments = checkpoint.args.Composite(
            state=checkpoint.args.StandardSave(parallel.to_global(state)._asdict()),
            metrics=checkpoint.args.JsonSave(metrics),
            means=checkpoint.args.StandardSave(parallel.to_global(means)._asdict()),
        )
        self._manager.save(int(state.step), args=arguments)

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest state, with shapes, dtypes and placement of another; None without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(checkpoint.utils.to_shape_dtype_struct, parallel.to_global(like)._asdict())
        arguments = checkpoint.args.Composite(state=checkpoint.args.StandardRestore(abstract))
        restored: Any = self._manager.restore(step, args=arguments)
        return parallel.to_local(TrainState(**restored.state))

    def metrics(self) -> Metrics:
        """The metrics that lie with the newest state."""
        arguments = checkpoint.args.Composite(metrics=checkpoint.args.JsonRestore())
        restored: Any = self._manager.restore(self._manager.latest_step(), args=arguments)
        return restored.metrics

    def means(self, like: Means) -> Means | None:
        """The means of the data that the newest state was trained on, shaped like others; None where there are none."""
        step = self._manager.latest_step()
        if step is None or not (self._manager.directory / str(step) / "means").exists():
            return None
        arguments = checkpoint.args.Composite(means=checkpoint.args.StandardRestore(like._asdict()))
        restored: Any = self._manager.restore(step, args=arguments)
        return Means(**restored.means)

    def close(self) -> None:
        """Waits for what is still being done."""
        self._manager.close()
