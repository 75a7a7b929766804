"""Pairings by labels: similar labels, the same class, another class."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int, PRNGKeyArray
import numpy as np

from jaxmix import checks, layout
from jaxmix.types import Batch, Labels, Scalar


def similar_labels(batch: Batch, rng: PRNGKeyArray, *, bandwidth: Scalar, labels: Labels = None) -> Int[Array, " n"]:
    r"""Draws partners with similar labels: C-Mixup's pairing, for regression.

    .. math:: P(\pi(i) = j) \propto \exp\Big(-\frac{\lVert y_i - y_j \rVert^2}{2 \sigma^2}\Big)

    over all j, including i itself, as in the authors' code. A sample that draws itself stays
    unmixed. Samples draw independently, so one sample may be the partner of several.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: a JAX key.
      bandwidth: :math:`\sigma`, > 0, in units of the labels. Labels of partners mostly differ by
        less than two bandwidths. Not checked when traced.
      labels: float targets [n, ...], or a pytree of them, in which all numbers count equally.
        Methods pass their own labels.

    Returns:
      Partner indices [n], int32. A sample whose labels are not finite is its own partner and no
      other sample's.

    Raises:
      ValueError: if there are no labels, if they do not have one row per sample, or if bandwidth
        is not positive and finite.
      TypeError: if labels are not float.

    Example:
      >>> ages = jnp.array([30.0, 70.0, 31.0, 71.0])
      >>> partner = pairings.similar_labels(jnp.ones((4, 2)), jax.random.key(0), bandwidth=2.0, labels=ages)
      >>> jnp.abs(ages - ages[partner]).max() <= 1
      Array(True, dtype=bool)

    References:
      Yao et al., `C-Mixup: Improving Generalization in Regression
      <https://arxiv.org/abs/2210.05775>`_, 2022
    """
    checks.key(rng)
    checks.positive("bandwidth", bandwidth)
    n = _checked(batch, labels)
    leaves = [layout.whole(jnp.asarray(leaf)).astype(jnp.float32).reshape(n, -1) for leaf in jax.tree.leaves(labels)]
    targets = jnp.concatenate(leaves, axis=1)
    scaled = (targets[:, None] - targets[None]) / jnp.asarray(bandwidth, jnp.float32)
    squared = jnp.sum(scaled**2, axis=2)
    density = jnp.where(jnp.isnan(squared), 0, jnp.exp(-squared / 2))
    density = jnp.where(jnp.eye(n, dtype=bool), 1, density)
    return _drawn(density, rng)


def same_class(batch: Batch, rng: PRNGKeyArray, *, labels: Labels = None) -> Int[Array, " n"]:
    """Draws partners by a uniform permutation within every class.

    A sample may be its own partner, and always is if it is the only one of its class.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: a JAX key.
      labels: float targets [n, c] for c classes. The largest gives the class, the first on a tie.
        Methods pass their own labels.

    Returns:
      Partner indices [n], int32: a permutation.

    Raises:
      ValueError: if there are no labels, or they are not [n, c] with c >= 2.
      TypeError: if labels are not float.

    Example:
      >>> pairs = jnp.eye(2)[jnp.array([0, 1, 0, 1])]
      >>> partner = pairings.same_class(jnp.ones((4, 2)), jax.random.key(0), labels=pairs)
      >>> (partner % 2).tolist()
      [0, 1, 0, 1]
    """
    checks.key(rng)
    classes = _classes(batch, labels)
    shuffled = jax.random.permutation(rng, jnp.arange(len(classes), dtype=jnp.int32))
    samples = jnp.argsort(classes)
    partners = shuffled[jnp.argsort(classes[shuffled])]  # class by class as the samples, in random order
    return jnp.zeros_like(shuffled).at[samples].set(partners, unique_indices=True)


def other_class(batch: Batch, rng: PRNGKeyArray, *, labels: Labels = None) -> Int[Array, " n"]:
    """Draws every partner uniformly from the samples of other classes.

    Samples draw independently, so one sample may be the partner of several. If all samples have
    the same class, each is its own partner.

    Args:
      batch: samples [n, ...], or a pytree of them.
      rng: a JAX key.
      labels: float targets [n, c] for c classes. The largest gives the class, the first on a tie.
        Methods pass their own labels.

    Returns:
      Partner indices [n], int32.

    Raises:
      ValueError: if there are no labels, or they are not [n, c] with c >= 2.
      TypeError: if labels are not float.

    Example:
      >>> pairs = jnp.eye(2)[jnp.array([0, 1, 0, 1])]
      >>> partner = pairings.other_class(jnp.ones((4, 2)), jax.random.key(0), labels=pairs)
      >>> (partner % 2).tolist()
      [1, 0, 1, 0]
    """
    checks.key(rng)
    classes = _classes(batch, labels)
    n = len(classes)
    before = jnp.sum(classes[:, None] > classes[None], axis=1, dtype=jnp.int32)
    own = jnp.sum(classes[:, None] == classes[None], axis=1, dtype=jnp.int32)
    place = jax.random.randint(rng, (n,), 0, jnp.maximum(n - own, 1), jnp.int32)
    place += jnp.where(place < before, 0, own)  # of the samples sorted by class, without those of the own
    sorted_samples = jnp.argsort(classes).astype(jnp.int32)
    return jnp.where(own < n, sorted_samples[place % n], jnp.arange(n, dtype=jnp.int32))


def _drawn(density: Float[Array, "n n"], rng: PRNGKeyArray) -> Int[Array, " n"]:
    """Draws a column for each row by its density, from one uniform number per row rather than n Gumbel draws."""
    total = jnp.cumsum(density, axis=1)
    level = jax.random.uniform(rng, (len(density), 1), jnp.float32) * total[:, -1:]
    partner = jnp.sum(total <= level, axis=1, dtype=jnp.int32)
    possible = jnp.take_along_axis(density, partner[:, None], axis=1)[:, 0] > 0  # rounded sums need not be monotone
    return jnp.where(possible, partner, jnp.arange(len(density), dtype=jnp.int32))


def _classes(batch: Batch, labels: Labels) -> Int[Array, " n"]:
    """Returns the class of every sample, on every device."""
    n = _checked(batch, labels)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(labels)]
    if len(shapes) != 1 or len(shapes[0]) != 2 or shapes[0][1] < 2:
        found = " and ".join(map(str, shapes))
        raise ValueError(
            f"labels have shape {found}, where classes are an array [{n}, classes]: bind one-hot labels by "
            "functools.partial(..., labels=...), or use pairings.similar_labels for other targets"
        )
    return layout.whole(jnp.argmax(jnp.asarray(jax.tree.leaves(labels)[0]), axis=1).astype(jnp.int32))


def _checked(batch: Batch, labels: Labels) -> int:
    """Checks that there are labels, one row per sample, and returns n."""
    n, _ = checks.batch_shape(batch)
    if not jax.tree.leaves(labels):
        raise ValueError(
            "this pairing looks at labels, and there are none: pass labels to the method, pass labels= to draw, "
            "or bind them by functools.partial(..., labels=...)"
        )
    checks.targets(labels, n)
    return n
