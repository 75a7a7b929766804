"""What things cost against one another: all timed in one program, round by round."""

from collections.abc import Callable, Mapping
import time

import jax
import numpy as np

from train import classifier, data, parallel, steps
from train.config import Config


def seconds(functions: Mapping[str, Callable[[], object]], num_rounds: int = 50) -> dict[str, np.ndarray]:
    """Times each function once per round, in an order drawn anew, after one call that compiles it."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    order = np.random.default_rng(0)
    for _ in range(num_rounds):
        for name in order.permutation(list(functions)):  # what ran before leaves its mark on the caches
            start = time.perf_counter()
            jax.block_until_ready(functions[name]())
            times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def quartiles(ratios: np.ndarray) -> list[float]:
    """[lower, median, upper]."""
    return np.percentile(ratios, (25, 50, 75)).tolist()


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
    runs = {name: _stepper(config, dataset, samples) for name, config in configs.items()}
    with parallel.compiled_anew():
        times = seconds(runs, num_rounds)
    base = times[next(iter(times))]
    return {name: quartiles(values / base) for name, values in times.items()}


def _stepper(config: Config, dataset: data.Dataset, samples: steps.Samples) -> Callable[[], object]:
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
