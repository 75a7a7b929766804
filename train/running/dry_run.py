"""Shows what a run would do, without compiling anything or touching files in its folder."""

import pathlib
from typing import Any

from flax import linen as nn
import jax

from train.config import leaves
from train.data import own
from train.running import checkpoints, parallel, run_folder
from train.running.loop import Build, prepare
from train.running.reporting import table

WIDTH = 120


def show(config: Any, workdir: pathlib.Path | None, build: Build, *, allow_config_change: bool = False) -> None:
    """Checks all that can be checked, and prints the configuration, the model and the steps to come.

    Args:
      config: of the run.
      workdir: its folder, where one was named.
      build: as the run's.
      allow_config_change: whether the run in the folder may have had another configuration.

    Raises:
      UsageError: as the run would.
    """
    dataset, program = prepare(config, build)
    step = 0
    if workdir:
        run_folder.check(workdir, config, digest=dataset.digest, allow_change=allow_config_change)
        step = checkpoints.Checkpoints(workdir / "checkpoints").step
    if not parallel.leads():
        return
    model, sample, called = program.model
    rng = jax.random.key(0)
    options: dict[str, Any] = {"box": None, "pad_edge": False}
    layers = nn.tabulate(
        model,
        rng,
        console_kwargs={"width": WIDTH, "force_terminal": False},
        table_kwargs=options,
        column_kwargs={"overflow": "fold"},
    )
    state = jax.eval_shape(program.init, rng)
    split, batch_size = dataset.splits["train"], config.data.batch_size
    steps = len(split) // batch_size
    total = config.num_epochs * steps
    applies = {name: value for name, value, _ in leaves(config)}
    if not own.is_folder(config.data.name):
        del applies["data.channels"]
    print(table((f"--config.{name}", str(value)) for name, value in applies.items()))
    print("\n".join(line.rstrip() for line in layers(*sample, **called).splitlines()[:-2] if line.strip()))
    print(
        table(
            [
                ("parameters", f"{sum(leaf.size for leaf in jax.tree.leaves(state.params)):,}"),
                ("devices", run_folder.environment()["devices"]),
                ("samples", ", ".join(f"{name} {len(part):,}" for name, part in dataset.splits.items())),
                ("an epoch", f"{steps:,} steps of {batch_size}, {len(split) - steps * batch_size} samples left out"),
                ("epochs", f"{config.num_epochs:,}, {total:,} steps"),
                ("to come", f"{total - step:,} steps, from step {step:,} on, in {workdir or 'a new folder'}"),
            ]
        )
    )
