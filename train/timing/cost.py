"""Times programs against each other in one process, round by round."""

from collections.abc import Callable, Hashable, Mapping
import time
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from train import data
from train.config import Config
from train.learning import steps
from train.running import parallel
from train.tasks import classifier

Key = TypeVar("Key", bound=Hashable)


class Compiled(NamedTuple):
    """A program for fixed arguments.

    Attributes:
      call: runs it.
      seconds: to compile it.
      bytes_moved: what XLA reckons that it reads and writes.
      bytes_held: of its results and what it needs besides, at once.
    """

    call: Callable[[], Any]
    seconds: float
    bytes_moved: float
    bytes_held: float


def compiled(function: Callable, *arguments: Any) -> Compiled:
    """Compiles a function for its arguments."""

    def anew(*arguments):  # of another function nothing is kept
        return function(*arguments)

    jax.eval_shape(lambda *arguments: function(*arguments), *arguments)  # imports what it needs, which may take long
    with parallel.compiled_anew():
        start = time.perf_counter()
        program = jax.jit(anew).lower(*arguments).compile()
        seconds = time.perf_counter() - start
    memory: Any = program.memory_analysis()
    costs: Any = program.cost_analysis()
    held = memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Compiled(lambda: program(*arguments), seconds, costs["bytes accessed"], held)


def recycling(function: Callable, *arguments: Any) -> Callable[[], Any]:
    """A function's call that writes its result over the one before, which is gone then, instead of into new memory."""
    program = jax.jit(lambda scratch, *arguments: function(*arguments), donate_argnums=0, keep_unused=True)
    scratch = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, *arguments))

    def call():
        nonlocal scratch
        scratch = program(scratch, *arguments)
        return scratch

    return call


def seconds(functions: Mapping[Key, Callable[[], object]], num_rounds: int = 50) -> dict[Key, np.ndarray]:
    """Times each function once per round, in an order drawn anew, after one call that compiles it."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[Key, list[float]] = {name: [] for name in functions}
    order, names = np.random.default_rng(0), list(functions)
    for _ in range(num_rounds):
        for i in order.permutation(len(names)):  # what ran before leaves its mark on the caches
            start = time.perf_counter()
            jax.block_until_ready(functions[names[i]]())
            times[names[i]].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def quartiles(values: np.ndarray) -> list[float]:
    """[lower, median, upper]."""
    return np.percentile(values, (25, 50, 75)).tolist()


def step_ratios(configs: Mapping[str, Config], dataset: data.Dataset, num_rounds: int = 50) -> dict[str, list[float]]:
    """Times a training step of each configuration once per round.

    Args:
      configs: by name, which differ in their mixing only; the first is what the others are divided by.
      dataset: what they train on.
      num_rounds: how often.

    Returns:
      The quartiles of the ratios within a round: [lower, median, upper].
    """
    samples = parallel.place(steps.Samples(*dataset.splits["train"].resident, dataset.mean, dataset.std))
    runs = {name: stepper(config, dataset, samples) for name, config in configs.items()}
    with parallel.compiled_anew():
        times = seconds(runs, num_rounds)
    base = times[next(iter(times))]
    return {name: quartiles(values / base) for name, values in times.items()}


def stepper(config: Config, dataset: data.Dataset, samples: steps.Samples) -> Callable[[], object]:
    """A function that takes one step more."""
    program, split = classifier.build(config, dataset), dataset.splits["train"]
    state, rng = parallel.place((jax.jit(program.init)(jax.random.key(0)), jax.random.key(1)))
    order = data.epoch_order(len(split), config.data.batch_size, seed=config.seed, epoch=0)[:1]
    batch = parallel.split(next(iter(split.batches(order, epoch=0))))

    def step():
        nonlocal state
        state, metrics = program.train_step(0)(state, samples, batch, rng)
        return metrics

    return step
