"""Pairing by optimal transport between groups of the batch, and the distance between partners."""

import operator
from typing import Literal

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int, PRNGKeyArray

from jaxmix import assignment, checks, layout
from jaxmix.pairings import plain
from jaxmix.types import AssignmentFn, Batch, FeatureFn

_SOLVERS: dict[str, AssignmentFn] = {"sinkhorn": assignment.sinkhorn, "exact": assignment.exact}


def transport(
    batch: Batch,
    rng: PRNGKeyArray,
    *,
    k: int = 16,
    solver: Literal["sinkhorn", "exact"] | AssignmentFn = "sinkhorn",
    cost: Literal["sqeuclidean", "euclidean"] = "sqeuclidean",
    groups: Literal["disjoint", "permute"] = "disjoint",
    features: FeatureFn | None = None,
) -> Int[Array, " n"]:
    r"""Draws groups of k samples and matches pairs of groups by optimal transport.

    .. math:: \sigma = \arg\min_{\text{permutations}} \sum_{i=1}^k d(x_i, x'_{\sigma(i)})

    Distances are float32. Distances in a group that differ by less than about 1e-6 of the
    largest count as equal.

    Args:
      batch: samples [n, ...], or a pytree of them. Distances are those of the leaf of highest
        rank (the first on a tie, in the order of sorted keys for dictionaries).
      rng: a JAX key.
      k: size of the groups. It divides n into at least two groups, or is 1. With k = 1 this is
        `permutation`, draw for draw.
      solver: "sinkhorn" (near the optimum), "exact" (the optimum; faster on CPUs up to k = 64),
        or a function costs [g, k, k] -> columns [g, k], such as
        `functools.partial(assignment.sinkhorn, epsilon=0.01, num_iterations=500)`.
      cost: "sqeuclidean", the squared Euclidean distance, or "euclidean", the distance, as in the
        authors' code.
      groups: "disjoint" shuffles the batch, cuts it into groups, and matches each group with the
        next, so no sample is its own partner. "permute" matches consecutive groups of the batch
        with those of its permutation, as in the authors' code. Then a sample may be its own
        partner.
      features: batch -> [n, ...], the features to measure distances in; by default the leaf of
        highest rank. No gradient flows through them.

    Returns:
      Partner indices [n], int32: a permutation.

    Raises:
      ValueError: if k does not divide n, if k >= 2 leaves fewer than two groups, if a name
        is unknown, or if the features are not [n, ...].
      TypeError: if the leaf of highest rank is neither float nor uint8.

    Example:
      >>> points = jnp.array([[0.0], [10.0], [1.0], [11.0]])
      >>> partner = pairings.transport(points, jax.random.key(0), k=2, solver="exact")
      >>> sorted(partner.tolist())
      [0, 1, 2, 3]

    References:
      Greenewald et al., `k-Mixup Regularization for Deep Learning via Optimal Transport
      <https://arxiv.org/abs/2106.02933>`_, 2021
    """
    checks.key(rng)
    n, _ = checks.batch_shape(batch)
    k = _group_size(k, n)
    solve = _named("solver", solver, _SOLVERS) if isinstance(solver, str) else solver
    distance = _named("cost", cost, {"sqeuclidean": lambda squared: squared, "euclidean": jnp.sqrt})
    grouping = _named("groups", groups, {"disjoint": _disjoint_groups, "permute": _permuted_groups})
    if k == 1:
        return plain.permutation(batch, rng)
    anchors, candidates = grouping(n // k, k, rng)
    measured = layout.whole(_measured(batch, features))
    on_tpus = _distances_of_all if layout.multiplies(measured, n) else _distances_of_groups
    squared = jax.lax.platform_dependent(measured, anchors, candidates, tpu=on_tpus, default=_distances_of_groups)
    columns = solve(distance(squared))
    partners = jnp.take_along_axis(candidates, columns, axis=1)
    return jnp.zeros(n, jnp.int32).at[anchors.ravel()].set(partners.ravel(), unique_indices=True)


def displacement(batch: Batch, partner: Int[Array, " n"], *, features: FeatureFn | None = None) -> Float[Array, ""]:
    """Returns the mean squared Euclidean distance between samples and their partners.

    `ratios.matched_alpha` takes the ratio of this distance between two pairings.

    Args:
      batch: samples [n, ...], or a pytree of them. Distances are those of the leaf of highest
        rank (the first on a tie, in the order of sorted keys for dictionaries).
      partner: partner indices [n].
      features: batch -> [n, ...], the features to measure distances in; by default the leaf of
        highest rank.

    Returns:
      A float32 scalar, in squared units of the samples.

    Raises:
      ValueError: if the batch is empty or its leaves differ in n, or if the features
        are not [n, ...].
      TypeError: if the leaf of highest rank is neither float nor uint8.

    Example:
      >>> pairings.displacement(jnp.array([[0.0], [2.0]]), jnp.array([1, 0]))
      Array(4., dtype=float32)
    """
    measured = _measured(batch, features)
    squares = (measured - layout.rows(measured, partner)) ** 2
    return jnp.mean(jnp.sum(squares.reshape(len(squares), -1), axis=1))


def squared_distances(x: Float[Array, "g k d"], y: Float[Array, "g k d"]) -> Float[Array, "g k k"]:
    r"""Computes squared Euclidean distances within groups, by matrix products.

    .. math:: \lVert x - y \rVert^2 = \lVert x \rVert^2 + \lVert y \rVert^2 - 2 x^\top y

    Both groups are first shifted by the centre of x, so that a large mean does not cancel the
    differences.

    Args:
      x: points [g, k, d].
      y: points [g, k, d].

    Returns:
      Squared distances [g, k, k], >= 0, between every x and every y of its group.

    Example:
      >>> pairings.squared_distances(jnp.array([[[0.0], [1.0]]]), jnp.array([[[0.0], [3.0]]]))
      Array([[[0., 9.],
              [1., 4.]]], dtype=float32)
    """
    centre = jnp.mean(x, axis=1, keepdims=True)
    x, y = x - centre, y - centre
    products = jnp.einsum("gid,gjd->gij", x, y, precision="highest")
    squares = jnp.sum(x**2, axis=-1)[:, :, None] + jnp.sum(y**2, axis=-1)[:, None, :]
    return jnp.maximum(squares - 2 * products, 0)


def _measured(batch: Batch, features: FeatureFn | None) -> Float[Array, "n ..."]:
    """Returns the features or the leaf in which distances are measured, in float32."""
    n, _ = checks.batch_shape(batch)
    measured = jnp.asarray((features or checks.lead_leaf)(batch))
    if not features:
        checks.measurable(measured, "pass features, a function from the batch to floats [n, ...]")
    if measured.shape[:1] != (n,):
        raise ValueError(f"features return shape {measured.shape} for {n} samples: make it [{n}, ...]")
    return jax.lax.stop_gradient(measured).astype(jnp.float32)


def _distances_of_groups(measured: Array, anchors: Array, candidates: Array) -> Float[Array, "g k k"]:
    """Squared distances of anchors from candidates, group by group."""
    points = measured.reshape(len(measured), -1)
    return squared_distances(points[anchors], points[candidates])


def _distances_of_all(measured: Array, anchors: Array, candidates: Array) -> Float[Array, "g k k"]:
    """Squared distances as above, picked from those between all samples: no sample is moved or reshaped."""
    centred = measured - jnp.mean(measured, axis=0, keepdims=True)
    axes = tuple(range(1, measured.ndim))
    products = jnp.tensordot(centred, centred, (axes, axes), precision="highest")
    squares = jnp.sum(centred**2, axis=axes)
    distances = jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    return distances[anchors[:, :, None], candidates[:, None, :]]


def _disjoint_groups(g: int, k: int, rng: PRNGKeyArray):
    anchors = jax.random.permutation(rng, jnp.arange(g * k, dtype=jnp.int32)).reshape(g, k)
    return anchors, jnp.roll(anchors, -1, axis=0)


def _permuted_groups(g: int, k: int, rng: PRNGKeyArray):
    identity = jnp.arange(g * k, dtype=jnp.int32)
    return identity.reshape(g, k), jax.random.permutation(rng, identity).reshape(g, k)


def _group_size(k: int, n: int) -> int:
    """Checks that n samples make at least two groups of k, or that k is 1."""
    try:
        k = operator.index(k)
    except TypeError:
        raise TypeError(f"k must be a Python int, got {k!r}: bind it by functools.partial") from None
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if k > 1 and (n % k or n < 2 * k):
        sizes = [size for size in range(1, n + 1) if n % size == 0 and (size == 1 or n >= 2 * size)]
        batches = sorted({max(2, n // k) * k, (max(2, n // k) + (n >= 2 * k)) * k})
        why = "does not divide it" if n % k else "makes one group of it, where two are needed"
        raise ValueError(
            f"k={k} and a batch of {n}: k {why}; take k from {sizes}, or a batch of {' or '.join(map(str, batches))}"
        )
    return k


def _named(option: str, name: str, choices: dict):
    if name not in choices:
        raise ValueError(f"unknown {option} {name!r}: take one of {', '.join(choices)}")
    return choices[name]
