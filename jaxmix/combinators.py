"""Combinators, which make a MixFn from other MixFns."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix import checks, signatures
from jaxmix.types import Batch, Labels, MixFn, Scalar


def erm(batch: Batch, labels: Labels, rng: Any) -> tuple[Batch, Labels]:
    """Returns the batch and labels unmixed: empirical risk minimisation as a MixFn.

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
    """Mixes each sample with a probability; other samples and their labels stay as they are.

    Args:
      fn: any MixFn that keeps shapes and dtypes.
      probability: probability that a sample is mixed, in [0, 1]. Not checked when traced.

    Returns:
      A MixFn.

    Raises:
      ValueError: if probability lies outside [0, 1]; when called, if `fn` changes shapes or
        dtypes.

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
    """Mixes by one of several methods, drawn at random for every batch or every sample.

    Args:
      *fns: MixFns that return equal shapes and dtypes.
      probabilities: one per function, summing to 1; equal by default.
      per_sample: draw a method for every sample rather than for the batch. All methods are then
        computed. By default only the drawn one is, except under vmap.

    Returns:
      A MixFn.

    Raises:
      ValueError: if there is no function, or probabilities are not one per function, in
        [0, 1] and summing to 1; when called, if the functions return different shapes or dtypes.

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
    """Encodes the batch, mixes the latents, and decodes the mix.

    Args:
      fn: any MixFn.
      encode: batch -> latents, a batch that `fn` takes.
      decode: latents -> batch, shaped and typed like the input of encode.

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
    """Returns chosen for samples whose gate is true, other for the rest, leaf by leaf."""

    def select(a, b):
        return jnp.where(jnp.expand_dims(gate, range(1, jnp.ndim(a))), a, b)

    return jax.tree.map(select, chosen, other)
