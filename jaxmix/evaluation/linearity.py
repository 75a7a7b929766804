"""How far a loss is from linear in a small box around a sample."""

from collections.abc import Callable

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float

from jaxmix import checks
from jaxmix.types import Keys, Scalar


def gap(
    inputs: Float[Array, "n ..."],
    rng: Keys,
    *,
    loss: Callable[[Array], Array],
    epsilon: Scalar,
    num_steps: int = 10,
    step_size: Scalar | None = None,
) -> Float[Array, " n"]:
    r"""Measures the largest error of the loss's linear approximation in the box of half-width epsilon.

    .. math:: \max_{\lVert \delta \rVert_\infty \le \epsilon}
        \big\lvert \ell(x + \delta) - \ell(x) - \delta^\top \nabla \ell(x) \big\rvert

    It is sought by projected sign ascent, from a random start as the gap has no gradient at 0, and so is a lower
    bound. Nothing is clipped to [0, 1]: the loss is taken in the whole box, beyond the range of pixels too. The error
    is a difference in float32: a gap below some 1e-6 of the loss is rounding.

    Args:
      inputs: floats [n, ...].
      rng: a JAX key for each sample, [n], so that results do not depend on how samples are batched.
      loss: inputs [n, ...] -> losses [n], each of its own sample only.
      epsilon: half-width of the box, >= 0.
      num_steps: steps of the ascent.
      step_size: how far an entry moves in a step, > 0; 2.5 epsilon / num_steps unless given.

    Returns:
      The largest gap that was met, at the start or after any step; float32, [n].

    Raises:
      TypeError: if inputs are not float, or epsilon or step_size is not a single number.
      ValueError: if a concrete epsilon is negative or a concrete step_size not positive, or either not finite; if
        num_steps is less than 1; or if there is not one key per sample.

    Example:
      >>> rng = jax.random.split(jax.random.key(0), 1)
      >>> linearity.gap(jnp.ones((1, 3)), rng, loss=lambda x: jnp.sum(x**2, axis=1) / 2, epsilon=2.0)
      Array([6.], dtype=float32)

    References:
      Qin et al., `Adversarial Robustness through Local Linearization
      <https://arxiv.org/abs/1907.02610>`_, 2019
    """
    checks.floats("inputs", inputs)
    checks.non_negative("epsilon", epsilon)
    if step_size is not None:
        checks.positive("step_size", step_size)
    checks.at_least_one("num_steps", num_steps)
    n = jnp.shape(inputs)[0]
    checks.key_per_sample(rng, n)
    inputs, epsilon = jnp.asarray(inputs, jnp.float32), jnp.asarray(epsilon, jnp.float32)
    step_size = 2.5 * epsilon / num_steps if step_size is None else jnp.asarray(step_size, jnp.float32)

    def total(fn):
        """The gradient of a sum is every sample's own."""

        def summed(x):
            values = fn(x).astype(jnp.float32)
            return jnp.sum(values), values

        return jax.grad(summed, has_aux=True)

    gradient, base = total(loss)(inputs)

    def error(delta):
        linear = base + jnp.sum(delta * gradient, axis=range(1, delta.ndim))
        return jnp.abs(loss(inputs + delta).astype(jnp.float32) - linear)

    def step(_, state):
        delta, largest = state
        uphill, gaps = total(error)(delta)
        return jnp.clip(delta + step_size * jnp.sign(uphill), -epsilon, epsilon), jnp.maximum(largest, gaps)

    start = jax.vmap(lambda rng: jax.random.uniform(rng, inputs.shape[1:], jnp.float32, -1, 1))(rng)
    # One step more than asked for measures where the last one led, without a second copy of the loss.
    return jax.lax.fori_loop(0, num_steps + 1, step, (epsilon * start, jnp.zeros_like(base)))[1]
