"""MixFns made of MixFns."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix import checks, signatures
from jaxmix.types import Batch, Labels, MixFn, Scalar


def erm(batch: Batch, labels: Labels, rng: Any) -> tuple[Batch, Labels]:
    """Mixes nothing: empirical risk minimisation, as a MixFn where one has to be named.

    Args:
      batch: anything.
      labels: anything.
      rng: ignored.

    Returns:
      The same batch and labels.

    Example:
      >>> half_of_all_batches = jaxmix.one_of(jaxmix.mixup, combinators.erm)
      >>> half_of_all_batches(jnp.ones((4, 2)), jnp.eye(4), jax.random.key(0))[1].shape
      (4, 4)
    """
    del rng
    return batch, labels


def sometimes(fn: MixFn, *, probability: Scalar) -> MixFn:
    """Mixes each sample with a probability, and else leaves it and its labels as they are.

    Args:
      fn: any MixFn that keeps shapes and dtypes.
      probability: chance of each sample to be mixed, in [0, 1]; not checked where it is
        traced.

    Returns:
      A MixFn.

    Raises:
      ValueError: if probability lies outside [0, 1]; when called, if `fn` changes shapes.

    Example:
      >>> half = jaxmix.sometimes(jaxmix.mixup, probability=0.5)
      >>> half(jnp.ones((4, 2)), jnp.eye(4), jax.random.key(0))[1].shape
      (4, 4)
    """
    checks.probability("probability", probability)

    def sometimes_mixed(batch, labels, rng):
        checks.key(rng)
        n, _ = checks.batch_shape(batch)
        gate_rng, mix_rng = jax.random.split(rng)
        mixed = fn(batch, labels, mix_rng)
        checks.same_shapes(
            mixed, (batch, labels), got_name=f"{signatures.name_of(fn)} returns", expected_name="its input is"
        )
        gate = jax.random.bernoulli(gate_rng, jnp.asarray(probability, jnp.float32), (n,))
        return _select(gate, mixed, (batch, labels))

    return sometimes_mixed


def one_of(*fns: MixFn, probabilities: Sequence[float] | None = None, per_sample: bool = False) -> MixFn:
    """Mixes by one of several methods, drawn anew for every batch or every sample.

    Args:
      *fns: MixFns that return equal shapes and dtypes.
      probabilities: of each, summing to 1; equal unless given.
      per_sample: draw for every sample rather than for the batch. Every method is then
        computed, at the sum of their costs; else only the one that is drawn (under vmap, all).

    Returns:
      A MixFn.

    Raises:
      ValueError: if there is no function, or probabilities are not one per function, in
        [0, 1] and summing to 1; when called, if the functions return unequal shapes.

    Example:
      >>> either = jaxmix.one_of(jaxmix.mixup, jaxmix.cutmix, probabilities=(0.3, 0.7))
      >>> either(jnp.ones((4, 8, 8, 3)), jnp.eye(4), jax.random.key(0))[1].shape
      (4, 4)
    """
    if not fns:
        raise ValueError("one_of needs at least one function to choose from")
    weights = np.full(len(fns), 1 / len(fns)) if probabilities is None else np.asarray(probabilities, np.float64)
    if weights.shape != (len(fns),) or np.any(weights < 0) or not np.isclose(weights.sum(), 1):
        raise ValueError(
            f"probabilities must be {len(fns)} numbers in [0, 1] that sum to 1, one per function, got {probabilities}"
        )

    def one_of_mixed(batch, labels, rng):
        checks.key(rng)
        n, _ = checks.batch_shape(batch)
        batch, labels = jax.tree.map(jnp.asarray, (batch, labels))
        choice_rng, mix_rng = jax.random.split(rng)
        expected = jax.eval_shape(fns[0], batch, labels, mix_rng)
        for fn in fns[1:]:
            got = jax.eval_shape(fn, batch, labels, mix_rng)
            checks.same_shapes(
                got,
                expected,
                got_name=f"{signatures.name_of(fn)} returns",
                expected_name=f"{signatures.name_of(fns[0])} returns",
            )
        shape = (n,) if per_sample else ()
        choice = jax.random.choice(choice_rng, len(fns), shape, p=jnp.asarray(weights, jnp.float32))
        if not per_sample:
            return jax.lax.switch(choice, fns, batch, labels, mix_rng)
        rngs = jax.random.split(mix_rng, len(fns))
        chosen = fns[0](batch, labels, rngs[0])
        for index in range(1, len(fns)):
            chosen = _select(choice == index, fns[index](batch, labels, rngs[index]), chosen)
        return chosen

    return one_of_mixed


def in_latent_space(fn: MixFn, *, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> MixFn:
    """Mixes what an encoder makes of the batch, and decodes the mix.

    Args:
      fn: any MixFn.
      encode: batch -> latents, a batch of its own.
      decode: latents -> batch, shaped and typed like what was encoded.

    Returns:
      A MixFn.

    Raises:
      ValueError: when called, if `decode` returns other shapes or dtypes than the batch's.

    Example:
      >>> geometric = jaxmix.in_latent_space(jaxmix.mixup, encode=jnp.log, decode=jnp.exp)
      >>> geometric(jnp.ones((4, 2)), jnp.eye(4), jax.random.key(0))[0].shape
      (4, 2)

    References:
      Mangla et al., `On the benefits of defining vicinal distributions in latent space
      <https://arxiv.org/abs/2003.06566>`_, 2021
    """

    def mixed_in_latent_space(batch, labels, rng):
        latents, labels = fn(encode(batch), labels, rng)
        decoded = decode(latents)
        checks.same_shapes(decoded, batch, got_name="decode returns", expected_name="the batch is")
        return decoded, labels

    return mixed_in_latent_space


def _select(gate, chosen, other):
    """chosen where the sample's gate is open, else other; leaf by leaf."""

    def select(a, b):
        return jnp.where(jnp.expand_dims(gate, range(1, jnp.ndim(a))), a, b)

    return jax.tree.map(select, chosen, other)
