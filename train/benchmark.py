"""Times the parts of k-mixup against building its cost matrix, all in one run.

Usage: python -m train.benchmark

One batch of 1,024 images of 32 x 32 x 3 with the 1/f spectrum of natural ones. For each k:
the time to gather and build the grouped cost matrices, each solver's time as a ratio to it,
how far its matching is above the optimum, and all of k-mixup as a ratio to mixup. Medians
of 50 rounds, in each of which everything is timed once; in brackets the quartiles.
"""

from collections.abc import Callable, Mapping
import functools
import platform
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from jaxmix import assignment, pairings

NUM_SAMPLES, NUM_ROUNDS = 1024, 50


def random_fields(n: int, seed: int = 0, size: int = 32) -> np.ndarray:
    """Images with the 1/f amplitude spectrum of natural ones, [n, size, size, 3] float32."""
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = 1 / size
    noise = np.random.default_rng(seed).normal(size=(n, size, size, 3))
    spectrum = np.fft.fft2(noise, axes=(1, 2)) / radius[None, :, :, None]
    return np.real(np.fft.ifft2(spectrum, axes=(1, 2))).astype(np.float32)


def seconds(functions: Mapping[str, Callable[[], object]], num_rounds: int = NUM_ROUNDS) -> dict[str, np.ndarray]:
    """Times each function once per round, after one call that compiles it."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(num_rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: np.ndarray, base: np.ndarray) -> str:
    """The median of the ratios within a round, and their quartiles."""
    low, middle, high = np.percentile(times / base, (25, 50, 75))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def transport_row(batch: jax.Array, labels: jax.Array, k: int) -> list[str]:
    """One row of the table."""
    rng = jax.random.key(0)
    anchors = jax.random.permutation(rng, jnp.arange(len(batch))).reshape(-1, k)
    points = batch.reshape(len(batch), -1)
    build = jax.jit(
        lambda points, anchors: pairings.squared_distances(points[anchors], points[jnp.roll(anchors, -1, axis=0)])
    )
    costs = build(points, anchors)
    solvers = {"exact": jax.jit(assignment.exact), "sinkhorn": jax.jit(assignment.sinkhorn)}
    methods = {
        "mixup": jax.jit(jaxmix.mixup),
        "kmixup exact": jax.jit(functools.partial(jaxmix.kmixup, k=k, solver="exact")),
        "kmixup sinkhorn": jax.jit(functools.partial(jaxmix.kmixup, k=k)),
    }
    times = seconds(
        {"costs": lambda: build(points, anchors)}
        | {name: functools.partial(solve, costs) for name, solve in solvers.items()}
        | {name: functools.partial(method, batch, labels, rng) for name, method in methods.items()}
    )
    totals = {name: _total(costs, solve(costs)) for name, solve in solvers.items()}
    return [
        str(k),
        f"{1e3 * np.median(times['costs']):.1f} ms",
        ratio(times["exact"], times["costs"]),
        ratio(times["sinkhorn"], times["costs"]),
        f"{totals['sinkhorn'] / totals['exact'] - 1:.3%}",
        ratio(times["kmixup exact"], times["mixup"]),
        ratio(times["kmixup sinkhorn"], times["mixup"]),
    ]


def _total(costs: jax.Array, columns: jax.Array) -> float:
    return float(jnp.take_along_axis(costs, columns[:, :, None], axis=2).sum())


def main() -> None:
    """Prints the table."""
    batch = jnp.asarray(random_fields(NUM_SAMPLES))
    labels = jax.nn.one_hot(jnp.arange(NUM_SAMPLES) % 10, 10)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind} ({platform.machine()})"
    print(f"jax {jax.__version__}, {device}, {time.strftime('%Y-%m-%d')}\n")
    print("| k | costs | exact / costs | sinkhorn / costs | above optimum | kmixup exact / mixup | sinkhorn / mixup |")
    print("|---|---|---|---|---|---|---|")
    for k in (4, 8, 16, 32, 64):
        print("| " + " | ".join(transport_row(batch, labels, k)) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    main()
