"""Saves and restores the state of a run, in all processes together, and with it the means of its data."""

import pathlib
from typing import Any

import jax
from orbax import checkpoint

from train import parallel
from train.data import Means
from train.steps import TrainState

Losses = list[float]


class Checkpoints:
    """The checkpoints of a run, in <folder>/<step>; the newest two are kept."""

    def __init__(self, folder: pathlib.Path):
        options = checkpoint.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = checkpoint.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: TrainState, losses: Losses, means: Means) -> None:
        """Writes a state, the losses of its epoch so far and the means of its data; returns once they are on disk."""
        arguments = checkpoint.args.Composite(
            state=checkpoint.args.StandardSave(parallel.to_global(state)._asdict()),
            losses=checkpoint.args.JsonSave(losses),
            means=checkpoint.args.StandardSave(parallel.to_global(means)._asdict()),
        )
        self._manager.save(int(state.step), args=arguments)

    def restore(self, like: TrainState) -> tuple[TrainState, Losses] | None:
        """The newest state, with shapes, dtypes and placement of another, and its losses; None without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(checkpoint.utils.to_shape_dtype_struct, parallel.to_global(like)._asdict())
        arguments = checkpoint.args.Composite(
            state=checkpoint.args.StandardRestore(abstract), losses=checkpoint.args.JsonRestore()
        )
        restored: Any = self._manager.restore(step, args=arguments)
        return parallel.to_local(TrainState(**restored.state)), restored.losses

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
