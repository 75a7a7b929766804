"""Times methods with masks against a CutMix written by hand, and the parts of k-mixup, in one run.

Usage: python -m train.benchmark

Batches of images with the 1/f spectrum of natural ones. First, by size: each method that needs
no transport, as a ratio to a jitted CutMix written by hand. Then, for 1,024 images of
32 x 32 x 3 and each k: the time to gather and build the grouped cost matrices, each solver's
time as a ratio to it, how far its matching is above the optimum, and all of k-mixup as a ratio
to mixup. Medians of 50 rounds, in each of which everything is timed once; in brackets the
quartiles.
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
MASKED = ("mixup", "cutmix", "hmix", "gmix")


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


def cutmix_by_hand(images: jax.Array, labels: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """CutMix as one writes it for square images, with a box per sample."""
    n, size = images.shape[:2]
    partner_rng, ratio_rng, y_rng, x_rng = jax.random.split(rng, 4)
    partner = jax.random.permutation(partner_rng, n)
    half = (size * jnp.sqrt(1 - jax.random.uniform(ratio_rng, (n, 1)))).astype(jnp.int32) // 2
    places = jnp.arange(size)[None]
    rows, columns = (
        (places >= centre - half) & (places < centre + half)
        for centre in (jax.random.randint(key, (n, 1), 0, size) for key in (y_rng, x_rng))
    )
    inside = rows[:, :, None] & columns[:, None, :]
    share = 1 - inside.mean((1, 2))[:, None]
    return jnp.where(inside[..., None], images[partner], images), share * labels + (1 - share) * labels[partner]


def mask_row(n: int, size: int) -> list[str]:
    """One row of the first table."""
    batch, labels = jnp.asarray(random_fields(n, size=size)), jax.nn.one_hot(jnp.arange(n) % 10, 10)
    methods = {"by hand": cutmix_by_hand} | {name: getattr(jaxmix, name) for name in MASKED}
    jitted = {name: jax.jit(method) for name, method in methods.items()}
    times = seconds(
        {name: functools.partial(method, batch, labels, jax.random.key(0)) for name, method in jitted.items()}
    )
    median = f"{1e3 * np.median(times['by hand']):.1f} ms"
    return [f"{n} x {size} x {size} x 3", median, *(ratio(times[name], times["by hand"]) for name in MASKED)]


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
    """Prints the tables."""
    batch = jnp.asarray(random_fields(NUM_SAMPLES))
    labels = jax.nn.one_hot(jnp.arange(NUM_SAMPLES) % 10, 10)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind} ({platform.machine()})"
    print(f"jax {jax.__version__}, {device}, {time.strftime('%Y-%m-%d')}\n")
    print(f"| batch | cutmix by hand | {' | '.join(f'{name} / by hand' for name in MASKED)} |")
    print("|---|---|---|---|---|---|")
    for n, size in ((256, 32), (NUM_SAMPLES, 32), (128, 224)):
        print("| " + " | ".join(mask_row(n, size)) + " |", flush=True)
    print(
        "\n| k | costs | exact / costs | sinkhorn / costs | above optimum | kmixup exact / mixup | sinkhorn / mixup |"
    )
    print("|---|---|---|---|---|---|---|")
    for k in (4, 8, 16, 32, 64):
        print("| " + " | ".join(transport_row(batch, labels, k)) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    main()
