"""Times methods with masks against a CutMix written by hand, the parts of k-mixup, and steps of MultiMix, in one run.

Usage: python -m train.benchmark

Batches of images with the 1/f spectrum of natural ones. First, by size: each method that needs
no transport, as a ratio to a jitted CutMix written by hand. Then, for 1,024 images of
32 x 32 x 3 and each k: the time to gather and build the grouped cost matrices, each solver's
time as a ratio to it, how far its matching is above the optimum, and all of k-mixup as a ratio
to mixup. Last: training steps of a small CNN that mix near the classifier, as ratios to one that
mixes nothing; 128 images of 28 x 28 x 1, 1,000 points. Medians of 50 rounds, in each of which
everything is timed once; in brackets the quartiles.
"""

from collections.abc import Sequence
import functools
import platform
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from jaxmix import assignment, pairings
from train import cost, data, fields
from train.config import Config, Data, Mix, Model

NUM_SAMPLES, NUM_ROUNDS = 1024, 50
MASKED = ("mixup", "cutmix", "hmix", "gmix")


def ratio(times: np.ndarray, base: np.ndarray) -> str:
    """The median of the ratios within a round, and their quartiles."""
    return shown(cost.quartiles(times / base))


def shown(quartiles: Sequence[float]) -> str:
    """The median, and the others in brackets."""
    low, middle, high = quartiles
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
    batch, labels = jnp.asarray(fields.random_fields(n, size=size)), jax.nn.one_hot(jnp.arange(n) % 10, 10)
    methods = {"by hand": cutmix_by_hand} | {name: getattr(jaxmix, name) for name in MASKED}
    jitted = {name: jax.jit(method) for name, method in methods.items()}
    times = cost.seconds(
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
    times = cost.seconds(
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


def step_rows(n: int = 128, size: int = 28) -> list[list[str]]:
    """The rows of the third table."""
    hull = {"method": "multimix", "space": "logits"}, {"method": "dense_multimix"}
    mixes: dict[str, dict[str, Any]] = {
        "erm": {"method": "erm"},
        "mixup": {"method": "mixup"},
        "mixup of embeddings": {"method": "mixup", "space": "embeddings"},
        "multimix of embeddings": hull[0] | {"space": "embeddings"},
        "multimix of logits": hull[0],
        "multimix of logits, alpha in [.5, 2]": hull[0] | {"alpha_range": (0.5, 2.0)},
        "dense multimix": hull[1],
        "dense multimix, alpha in [.5, 2]": hull[1] | {"alpha_range": (0.5, 2.0)},
        "dense multimix, draws per position": hull[1] | {"per_position": True},
        "dense multimix, both": hull[1] | {"alpha_range": (0.5, 2.0), "per_position": True},
    }
    configs = {
        name: Config(data=Data(batch_size=n), model=Model(width=16), mix=Mix(**mix)) for name, mix in mixes.items()
    }
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 1)).astype(np.uint8)
    split = data.InMemory(images, np.arange(n, dtype=np.int32) % 10)
    dataset = data.Dataset({"train": split}, 10, np.full(1, 0.5, np.float32), np.full(1, 0.3, np.float32))
    ratios = cost.step_ratios(configs, dataset, NUM_ROUNDS)
    return [[name, shown(quartiles)] for name, quartiles in ratios.items() if name != "erm"]


def _total(costs: jax.Array, columns: jax.Array) -> float:
    return float(jnp.take_along_axis(costs, columns[:, :, None], axis=2).sum())


def main() -> None:
    """Prints the tables."""
    batch = jnp.asarray(fields.random_fields(NUM_SAMPLES))
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
    print("\n| training step | / erm |\n|---|---|")
    for row in step_rows():
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    main()
