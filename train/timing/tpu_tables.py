"""Tables of XLA's estimates for TPU programs, which libtpu compiles without a TPU; nothing runs."""

from collections.abc import Callable, Mapping, Sequence
import functools
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
import numpy as np

from train import models
from train.config import Config, Mix, Model, Optimizer
from train.data import augmentation, splits
from train.errors import UsageError
from train.learning import mixing, optimizers, steps
from train.running import parallel
from train.timing import mixing_tables, training_tables
from train.timing.report import Cell, Table

METHODS = {name: method for name, method in mixing_tables.METHODS.items() if "by hand" not in name}
MIXES = {name: mix for name, mix in training_tables.MIXES.items() if "multimix" not in name and mix.space == "inputs"}
DTYPES = ("bfloat16", "uint8", "float32")


class Reckoned(NamedTuple):
    """What XLA reckons of a program.

    Attributes:
      moved: bytes that it reads and writes.
      seconds: that it takes; NaN where XLA gives no estimate.
      held: bytes besides arguments and results.
    """

    moved: float
    seconds: float
    held: float


def device(topology: str) -> Any:
    """One TPU of a topology that libtpu knows, such as v5e:2x2."""
    try:
        import libtpu
    except ImportError:
        raise UsageError("--topology needs libtpu, which compiles for TPUs where none is: pip install libtpu") from None
    library = pathlib.Path(libtpu.__file__).with_name("libtpu.so")
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_LIBRARY_PATH": str(library)}
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices[0]
    except Exception as error:  # libtpu's own kinds
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--topology={topology}, which should be a name such as v5e:2x2: libtpu says: {line}"
        ) from None


def reckoned(function: Callable, *arguments: Any, on: Any) -> Reckoned:
    """Compiles a function for a device and for arguments of these shapes."""

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(on))

    program = jax.jit(function).trace(*jax.tree.map(placed, arguments)).lower().compile()
    costs: Any = program.cost_analysis()
    memory: Any = program.memory_analysis()
    seconds = costs.get("optimal_seconds", -1)
    return Reckoned(costs["bytes accessed"], seconds if seconds > 0 else float("nan"), memory.temp_size_in_bytes)


def methods(on: Any, n: int = 1024, size: int = 224, dtypes: Sequence[str] = DTYPES) -> Table:
    """Each method against moving the batch once."""
    rows: list[list[Cell]] = []
    labels, rng = jax.ShapeDtypeStruct((n, 1000), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    for dtype in dtypes:
        images = jax.ShapeDtypeStruct((n, size, size, 3), dtype)
        found = {name: reckoned(method, images, labels, rng, on=on) for name, method in METHODS.items()}
        rows += [[dtype, name, *_cells(cost, found["copy"])] for name, cost in found.items()]
    title = f"Methods on {n:,} x {size} x {size} x 3"
    return Table(title, ["dtype", "method", "GB moved", "/ copy", "ms by XLA", "GB besides"], rows)


def training_steps(on: Any, n: int = 128, size: int = 224, model: str = "resnet50") -> Table:
    """Steps of a network in bfloat16 whose images come with each batch, against ERM's."""
    found = {name: _step(mix, n, size, model, on) for name, mix in MIXES.items()}
    rows: list[list[Cell]] = [[name, *_cells(cost, found["erm"])] for name, cost in found.items()]
    title = f"Training steps of {model} in bfloat16, {n} x {size} x {size} x 3 a core"
    return Table(title, ["method", "GB moved", "/ erm", "ms by XLA", "GB besides"], rows)


def tables(on: Any) -> Mapping[str, Callable[[], Table]]:
    """What makes each table."""
    return {"tpu_methods": functools.partial(methods, on), "tpu_steps": functools.partial(training_steps, on)}


def _step(mix: Mix, n: int, size: int, model: str, on: Any) -> Reckoned:
    shape, num_classes = (size, size, 3), 1000
    network = models.build(Config(model=Model(name=model, dtype="bfloat16")), shape, num_classes)
    optimizer = optimizers.build(Optimizer(name="sgd"), lambda step: 0.1)
    init = functools.partial(steps.init, network, optimizer)
    state = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *shape)))
    step = functools.partial(
        steps.train_step,
        model=network,
        augment=augmentation.build("flip", shape),
        objective=mixing.build(mix, num_steps=1),
        optimizer=optimizer,
        num_classes=num_classes,
        axis_name=parallel.AXIS,
    )
    statistics = np.full(3, 0.5, np.float32)
    batch = splits.Batch(np.zeros((1, n), np.int32), np.zeros((1, n, *shape), np.uint8), np.zeros((1, n), np.int32))

    def one_device(state: Any, batch: splits.Batch, rng: Any) -> Any:
        samples = steps.Samples(None, None, statistics, statistics)
        mapped = jax.vmap(step, (None, None, 0, None), axis_name=parallel.AXIS, out_axes=None)
        return mapped(state, samples, batch, rng)

    return reckoned(one_device, state, batch, jax.eval_shape(lambda: jax.random.key(0)), on=on)


def _cells(cost: Reckoned, base: Reckoned) -> list[Cell]:
    milliseconds: Cell = "" if np.isnan(cost.seconds) else 1e3 * cost.seconds
    return [cost.moved / 1e9, cost.moved / base.moved, milliseconds, cost.held / 1e9]
