"""Local linearity: the error of a loss's linear approximation around a sample."""

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
    r"""Returns the largest error of the loss's linear approximation within epsilon of each sample.

    .. math:: \max_{\lVert \delta \rVert_\infty \le \epsilon}
        \big\lvert \ell(x + \delta) - \ell(x) - \delta^\top \nabla \ell(x) \big\rvert

    Projected sign ascent searches for the maximum, so the result is a lower bound. It starts at random, because the gap
    has no gradient at 0. Inputs are not clipped to [0, 1]: the box may leave the range of pixels. The gap is a
    difference in float32, so a gap below about 1e-6 of the loss is rounding.

    Args:
      inputs: floats [n, ...].
      rng: JAX keys [n], one for each sample, so that results do not depend on batching.
      loss: inputs [n, ...] -> losses [n]. Each loss must depend on its own sample only.
      epsilon: largest change of an entry, >= 0.
      num_steps: number of ascent steps.
      step_size: change of an entry in a step, > 0; by default 2.5 epsilon / num_steps.

    Returns:
      The largest gap at the start and after each step, float32 [n].

    Raises:
      TypeError: if inputs are not float, or epsilon or step_size is not a single number.
      ValueError: if a concrete epsilon is negative, a concrete step_size is not positive, or either is not finite; if
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
        """Returns a function for every sample's gradient, by that of the sum, and the values."""

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
