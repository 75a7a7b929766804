"""Tables of the methods' times: each function returns the times of one run, and their ratios."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from jaxmix import assignment, embedding, masks, pairings, ratios
from train.timing import by_hand, cost, fields
from train.timing.report import Cell, Table

Arrays = tuple[jax.Array, jax.Array, jax.Array]

METHODS: dict[str, Callable] = {
    "copy": by_hand.copy,
    "mixup by hand": by_hand.mixup,
    "cutmix by hand": by_hand.cutmix,
    "mixup": jaxmix.mixup,
    "cutmix": jaxmix.cutmix,
    "hmix": jaxmix.hmix,
    "gmix": jaxmix.gmix,
    "smoothmix": jaxmix.smoothmix,
    "fmix": jaxmix.fmix,
    "gridmix": jaxmix.gridmix,
    "resizemix": jaxmix.resizemix,
    "saliencymix": jaxmix.saliencymix,
    "attentivemix": jaxmix.attentivemix,
    "kmixup k=16, exact": functools.partial(jaxmix.kmixup, k=16, solver="exact"),
    "kmixup k=16, sinkhorn": functools.partial(jaxmix.kmixup, k=16),
}
BATCHES = ((256, 32), (1024, 32), (128, 224))
SOLVERS = {"exact": assignment.exact, "sinkhorn": assignment.sinkhorn}


def methods(rounds: int, batches: Sequence[tuple[int, int]] = BATCHES) -> Table:
    """Each method against moving the batch once."""
    rows: dict[str, list[Cell]] = {name: [name] for name in METHODS}
    for n, size in batches:
        arguments = _batch(n, size)
        calls = {name: functools.partial(jax.jit(method), *arguments) for name, method in METHODS.items()}
        times = cost.seconds(calls, rounds)
        for name, row in rows.items():
            row += [_milliseconds(times[name]), cost.quartiles(times[name] / times["copy"])]
    columns = [column for n, size in batches for column in (f"{_shape(n, size)}, ms", "/ copy")]
    return Table("Methods", ["method", *columns], [*rows.values()])


def hand(rounds: int, batches: Sequence[tuple[int, int]] = BATCHES) -> Table:
    """Methods against the same written by hand."""
    pairs = {name: f"{name} by hand" for name in METHODS if f"{name} by hand" in METHODS}
    rows: dict[str, list[Cell]] = {name: [name] for name in pairs}
    for n, size in batches:
        arguments = _batch(n, size)
        named = [name for pair in pairs.items() for name in pair]
        times = cost.seconds({name: functools.partial(jax.jit(METHODS[name]), *arguments) for name in named}, rounds)
        for name, other in pairs.items():
            rows[name].append(cost.quartiles(times[name] / times[other]))
    columns = [f"{_shape(n, size)}, / by hand" for n, size in batches]
    return Table("Against code by hand", ["method", *columns], [*rows.values()])


def programs(rounds: int, n: int = 128, size: int = 224) -> Table:
    """What XLA takes to compile each method, and reckons that it moves and holds: nothing is run."""
    del rounds
    arguments = _batch(n, size)
    found = {name: cost.compiled(method, *arguments) for name, method in METHODS.items()}
    rows: list[list[Cell]] = [
        [name, program.seconds, program.bytes_moved / 2**20, program.bytes_held / 2**20]
        for name, program in found.items()
    ]
    return Table(f"Programs for {_shape(n, size)}", ["method", "compiling, s", "moved, MiB", "held, MiB"], rows)


def scratch(rounds: int, n: int = 128, size: int = 224) -> Table:
    """Methods that write over the result before, against a copy that does."""
    images, labels, rng = _batch(n, size)
    pixels = jnp.clip(40 * images + 128, 0, 255).astype(jnp.uint8)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, method in METHODS.items():
        if not name.startswith("kmixup"):
            calls[name, "new"] = functools.partial(jax.jit(method), images, labels, rng)
            calls[name, "over"] = cost.recycling(method, images, labels, rng)
            calls[name, "uint8"] = cost.recycling(method, pixels, labels, rng)
    slices = functools.partial(
        by_hand.cutmix_by_slices, np.asarray(images), np.asarray(labels), np.random.default_rng(0)
    )
    result = np.zeros(images.shape, np.float32)
    calls["cutmix by numpy's slices", "new"] = lambda: slices(np.empty_like(result))
    calls["cutmix by numpy's slices", "over"] = lambda: slices(result)
    times = cost.seconds(calls, rounds)
    rows: list[list[Cell]] = []
    for name in dict.fromkeys(name for name, _ in calls):
        kinds = [times.get((name, kind)) for kind in ("new", "over", "uint8")]
        against: list[Cell] = ["" if kind is None else cost.quartiles(kind / times["copy", "over"]) for kind in kinds]
        rows.append([name, _milliseconds(times[name, "over"]), *against])
    return Table(
        f"Into a result that is written over, {_shape(n, size)}: times the copy into one",
        ["method", "ms", "into a new result", "over the one before", "uint8, over the one before"],
        rows,
    )


def draws(rounds: int, sizes: Sequence[int] = (256, 1024), alphas: Sequence[float] = (1.0, 0.2)) -> Table:
    """What drawing adds to applying what is drawn."""
    rows: list[list[Cell]] = []
    for n in sizes:
        images, labels, rng = _batch(n, 32)
        for alpha in alphas:
            ratio = functools.partial(ratios.beta, alpha=alpha)
            draw = functools.partial(jaxmix.draw, pairing=pairings.permutation, ratio=ratio, mask=masks.uniform)
            calls = {
                "mixup": functools.partial(jax.jit(functools.partial(jaxmix.mixup, alpha=alpha)), images, labels, rng),
                "apply": functools.partial(jax.jit(jaxmix.apply), draw(images, rng), images, labels),
            }
            times = cost.seconds(calls, rounds)
            share = cost.quartiles(1 - times["apply"] / times["mixup"])
            rows.append([_shape(n, 32), f"{alpha:g}", *map(_milliseconds, times.values()), share])
    return Table("Random numbers", ["batch", "alpha", "mixup, ms", "its draw given, ms", "share of drawing"], rows)


def transport(rounds: int, n: int = 1024, groups: Sequence[int] = (4, 8, 16, 32, 64, 128)) -> Table:
    """The parts of k-mixup, and all of it, by k and solver."""
    batch, labels, rng = _batch(n, 32)
    build = jax.jit(_grouped_distances)
    rows: list[list[Cell]] = []
    for k in groups:
        anchors = jax.random.permutation(rng, jnp.arange(n)).reshape(-1, k)
        costs = build(batch, anchors)
        solvers = {name: jax.jit(solver) for name, solver in SOLVERS.items()}
        whole = {name: functools.partial(jaxmix.kmixup, k=k, solver=solver) for name, solver in SOLVERS.items()}
        times = cost.seconds(
            {"costs": functools.partial(build, batch, anchors)}
            | {name: functools.partial(solve, costs) for name, solve in solvers.items()}
            | {f"all, {name}": functools.partial(jax.jit(method), batch, labels, rng) for name, method in whole.items()}
            | {"mixup": functools.partial(jax.jit(jaxmix.mixup), batch, labels, rng)},
            rounds,
        )
        total = {name: _total(costs, solve(costs)) for name, solve in solvers.items()}
        rows.append(
            [
                str(k),
                _milliseconds(times["costs"]),
                *(cost.quartiles(times[name] / times["costs"]) for name in SOLVERS),
                f"{total['sinkhorn'] / total['exact'] - 1:.3%}",
                *(cost.quartiles(times[f"all, {name}"] / times["mixup"]) for name in SOLVERS),
            ]
        )
    columns = ["k", "costs, ms", "exact / costs", "sinkhorn / costs", "sinkhorn above optimum"]
    return Table(f"k-mixup of {_shape(n, 32)}", [*columns, "all, exact / mixup", "all, sinkhorn / mixup"], rows)


def hull(rounds: int, m: int = 128, sizes: Sequence[int] = (128, 1000), d: int = 512, positions: int = 49) -> Table:
    """MultiMix of embeddings, and the loss of Dense MultiMix of logits with its gradient, by the number of points."""
    rng, classes = jax.random.key(0), 100
    labels = jax.nn.one_hot(jnp.arange(m) % classes, classes)
    embeddings, logits = jax.random.normal(rng, (m, d)), jax.random.normal(rng, (m, positions, classes))
    attention = jax.nn.softmax(jax.random.normal(rng, (m, positions)))

    def dense(logits: jax.Array, n: int) -> jax.Array:
        return embedding.dense_multimix_loss(logits, labels, rng, attention=attention, num_mixed=n)

    programs = {("mixup", m): cost.compiled(jaxmix.mixup, embeddings, labels, rng)}
    for n in sizes:
        method = functools.partial(jaxmix.multimix, num_mixed=n)
        programs["multimix", n] = cost.compiled(method, embeddings, labels, rng)
        programs["dense multimix", n] = cost.compiled(jax.value_and_grad(functools.partial(dense, n=n)), logits)
    times = cost.seconds({name: program.call for name, program in programs.items()}, rounds)
    rows: list[list[Cell]] = [
        [name, f"{n:,}", _milliseconds(times[name, n]), program.bytes_held / 2**20]
        for (name, n), program in programs.items()
    ]
    title = (
        f"Points of the hull of {m} embeddings of {d}; dense: a loss over {positions} positions and {classes} classes"
    )
    return Table(f"{title}, and its gradient", ["method", "points", "ms", "held, MiB"], rows)


def _batch(n: int, size: int) -> Arrays:
    """Images with the 1/f spectrum of natural ones."""
    return jnp.asarray(fields.random_fields(n, size=size)), jax.nn.one_hot(jnp.arange(n) % 10, 10), jax.random.key(0)


def _grouped_distances(batch: jax.Array, anchors: jax.Array) -> jax.Array:
    points = batch.reshape(len(batch), -1)
    return pairings.squared_distances(points[anchors], points[jnp.roll(anchors, -1, axis=0)])


def _total(costs: jax.Array, columns: jax.Array) -> float:
    return float(jnp.take_along_axis(costs, columns[:, :, None], axis=2).sum())


def _milliseconds(times: np.ndarray) -> list[float]:
    return cost.quartiles(1e3 * times)


def _shape(n: int, size: int) -> str:
    return f"{n:,} x {size} x {size} x 3"
