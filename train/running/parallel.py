"""Devices and processes: the only pmap, and the placement of state and data for it."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import os
import pathlib
import re
import time
from typing import Any, TypeVar

import jax
from jax.experimental import multihost_utils
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from train.errors import LostError, UsageError, line

AXIS = "devices"
TIMEOUT = 30  # seconds after which a process that is not heard of counts as dead, and JAX ends the others

Tree = TypeVar("Tree")
Result = TypeVar("Result")


def names_cluster(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether SLURM or a TPU pod started this process as one of several."""
    step = "SLURM_STEP_NODELIST" in environment  # set by srun, not by an allocation alone
    return (step and int(environment.get("SLURM_NTASKS", "1")) > 1) or "," in environment.get(
        "TPU_WORKER_HOSTNAMES", ""
    )


def join(distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes, before anything else asks JAX for devices; does nothing for a single process.

    Args:
      distributed: whether to let JAX find the cluster.
      coordinator: host:port of process 0; needs the next two.
      num_processes: number of processes.
      process_id: index of this process.
    """
    if not (coordinator or distributed or names_cluster()):
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=TIMEOUT, shutdown_timeout_seconds=TIMEOUT
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"cannot join the other processes: {line(error)}") from None


def keep_programs(folder: pathlib.Path) -> None:
    """Keeps compiled programs in a folder, for later runs of the same programs."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@contextlib.contextmanager
def compiled_anew() -> Iterator[None]:
    """Disables kept programs, which may have been compiled for other cores and so have another speed."""
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()


def new_folder(name: str) -> pathlib.Path:
    """Returns a new run folder, named after the run and the time."""
    if jax.process_count() > 1:
        raise UsageError("several processes need one run folder: name it by --workdir")
    plain = re.sub(r"[^\w.=-]+", "_", name).strip("_")[:100]
    return pathlib.Path("runs") / f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"


def leads() -> bool:
    """Returns whether this process writes and reports."""
    return jax.process_index() == 0


def in_all(action: Callable[[], Result]) -> Result:
    """Runs an action in every process and returns its result; if it fails in one process, all end."""
    failure: Exception | None = None
    try:
        result = action()
    except Exception as error:  # whatever it is, the others must hear of it
        failure = error
    if jax.process_count() > 1 and not multihost_utils.process_allgather(np.int32(failure is None)).all():
        raise failure or LostError("stopped because another process did; its message says why")
    if failure:
        raise failure
    return result


def agreed(value: int, what: str) -> int:
    """Returns a value that all processes share; raises a UsageError if they differ."""
    if jax.process_count() > 1:
        values = multihost_utils.process_allgather(np.int32(value)).tolist()
        if len(set(values)) > 1:
            raise UsageError(f"processes differ in {what}, {values}: is the run folder on storage that they share?")
    return value


def in_leader(action: Callable[[], Result]) -> Result | None:
    """Runs an action in the leading process only; the others wait, and end if it fails."""
    return in_all(lambda: action() if leads() else None)


def steps_to_agree() -> int:
    """Returns how many steps pass between exchanges of signals among processes; 1 for a single process."""
    return 1 if jax.process_count() == 1 else 10


def agreed_signal(signal: int) -> int:
    """The signal that any of the processes has received, 0 for none; all of them call it at the same step."""
    return signal if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(signal)).max())


@contextlib.contextmanager
def ended_by_others() -> Iterator[None]:
    """Turns JAX's errors after the end of another process into an error that names the cause."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise LostError(f"another process has ended, or is out of reach: {str(error).splitlines()[0]}") from None


def train_step(step: Callable) -> Callable:
    """Maps step(state, samples, batch, rng) over the devices' axis of batch; the state is donated."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=None, donate_argnums=0)


def eval_step(step: Callable) -> Callable:
    """Maps step(state, samples, batch, weights) over the devices' axis of batch and weights."""
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0, 0), out_axes=None)


def per_sample(function: Callable) -> Callable:
    """Maps function(variables, statistics, arrays, parameters) over the devices' axis of arrays and of its result."""
    return jax.pmap(function, axis_name=AXIS, in_axes=(None, None, 0, None))


def place(tree: Tree) -> Tree:
    """Puts a copy on every local device, once; unplaced arguments would be copied at every step."""
    return jax.device_put(tree, _replicated(jax.local_devices()))


def share(order: np.ndarray) -> np.ndarray:
    """This process's part of every batch: [steps, batch] -> [steps, batch of a process]."""
    return np.split(order, jax.process_count(), axis=1)[jax.process_index()]


def split(batch: Tree) -> Tree:
    """Gives each local device its part: [batch of a process, ...] -> [local devices, batch of a device, ...]."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)


def to_global(tree: Tree) -> Tree:
    """The same copies as arrays on the devices of all processes, which orbax wants."""
    return jax.tree.map(lambda leaf: _rewrap(leaf, _replicated(jax.devices())), tree)


def to_local(tree: Tree) -> Tree:
    """The same copies as arrays on the devices of this process, which pmap wants."""
    return jax.tree.map(lambda leaf: _rewrap(leaf, _replicated(jax.local_devices())), tree)


def _replicated(devices: list[Any]) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())


def _rewrap(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    copies = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, copies)
