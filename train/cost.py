"""What a step of each method costs against the first one, all timed in one program."""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from train import benchmark, data, loop, parallel, steps
from train.config import Config


def step_ratios(configs: Mapping[str, Config], num_rounds: int = 50) -> dict[str, list[float]]:
    """Times a training step of each configuration once per round.

    Args:
      configs: by name, which differ in their mixing only; the first is what the others are divided by.
      num_rounds: how often.

    Returns:
      The quartiles of the ratios within a round: [lower, median, upper].
    """
    first = next(iter(configs.values()))
    dataset = data.load(first.data, seed=first.seed)
    samples = parallel.place(steps.Samples(*dataset.splits["train"].resident, dataset.mean, dataset.std))
    runs = {name: _stepper(config, dataset, samples) for name, config in configs.items()}
    times = benchmark.seconds(runs, num_rounds)
    base = times[next(iter(times))]
    return {name: np.percentile(values / base, (25, 50, 75)).tolist() for name, values in times.items()}


def _stepper(config: Config, dataset: data.Dataset, samples: steps.Samples) -> Callable[[], object]:
    """A function that takes one step more."""
    program, split = loop.build(config, dataset), dataset.splits["train"]
    state, rng = parallel.place((jax.jit(program.init)(jax.random.key(0)), jax.random.key(1)))
    order = data.epoch_order(len(split), config.data.batch_size, seed=config.seed, epoch=0)[:1]
    batch = parallel.split(next(iter(split.batches(order, epoch=0))))

    def step():
        nonlocal state
        state, metrics = program.mixed_step(state, samples, batch, rng)
        return metrics

    return step
