"""Saves and restores the state of a run."""

import pathlib

import jax
from orbax import checkpoint

from train.steps import TrainState


def save(folder: pathlib.Path, state: TrainState) -> pathlib.Path:
    """Writes a state to <folder>/<step>, and returns that path once it is on disk."""
    path = folder.resolve() / str(int(state.step))
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, state._asdict())
    return path


def restore(path: pathlib.Path, like: TrainState) -> TrainState:
    """Reads a state with the shapes, dtypes and placement of another."""
    abstract = jax.tree.map(checkpoint.utils.to_shape_dtype_struct, like._asdict())
    with checkpoint.StandardCheckpointer() as checkpointer:
        return TrainState(**checkpointer.restore(path.resolve(), abstract))
