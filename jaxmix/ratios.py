"""Ratios, which say how much to mix: (n, rng) -> each sample's own share; or, for many sources, rows of a simplex."""

import functools
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks
from jaxmix.types import Scalar


def beta(n: int, rng: PRNGKeyArray, *, alpha: Scalar = 1.0) -> Float[Array, " n"]:
    r"""Draws shares from the symmetric Beta(alpha, alpha).

    .. math:: \min(\lambda, 1 - \lambda) = \tfrac12 \Big(1 - \big(1 + \tfrac1c\big)^{-1/2}\Big),
        \quad c = (U^{-1/\alpha} - 1) \cos^2 \pi V

    U and V are uniform. The closed form needs no rejection loop, compiles once for all traced
    alphas, and has a gradient with respect to alpha. The code multiplies it through by
    :math:`u = U^{1/\alpha}`, so that it neither overflows nor cancels. Small values keep their
    relative precision down to float32's smallest normal number.

    Args:
      n: number of draws.
      rng: a JAX key.
      alpha: concentration, > 0. A Python 1.0 takes a plain uniform draw. Not checked when traced:
        an alpha that is not positive gives meaningless draws.

    Returns:
      Float32 shares of shape [n].

    Raises:
      ValueError: if a concrete alpha is not positive and finite.

    Example:
      >>> ratios.beta(3, jax.random.key(0), alpha=0.2).shape
      (3,)

    References:
      Devroye, `Random variate generation in one line of code
      <https://doi.org/10.1145/256562.256623>`_, 1996
    """
    checks.key(rng)
    checks.positive("alpha", alpha)
    if isinstance(alpha, float | int) and alpha == 1:
        return jax.random.uniform(rng, (n,), jnp.float32)
    exponent_rng, angle_rng, side_rng = jax.random.split(rng, 3)
    exponent = jnp.maximum(jax.random.exponential(exponent_rng, (n,), jnp.float32), 2.0**-24)  # 0 has no gradient
    exponent = exponent / jnp.asarray(alpha, jnp.float32)
    cosine = jnp.cos(jnp.pi * jax.random.uniform(angle_rng, (n,), jnp.float32))
    u, uc = jnp.exp(-exponent), -jnp.expm1(-exponent) * cosine**2
    smaller = 0.5 * u / (u + uc) / (1 + jnp.sqrt(uc / (u + uc)))
    return jnp.where(jax.random.bernoulli(side_rng, jnp.float32(0.5), (n,)), smaller, 1 - smaller)


def constant(n: int, rng: PRNGKeyArray, *, ratio: Scalar) -> Float[Array, " n"]:
    """Gives every sample the same share of itself.

    Args:
      n: number of shares.
      rng: ignored.
      ratio: the share, in [0, 1]. Not checked when traced.

    Returns:
      Float32 shares of shape [n].

    Raises:
      ValueError: if a concrete ratio lies outside [0, 1].

    Example:
      >>> ratios.constant(2, jax.random.key(0), ratio=0.25)
      Array([0.25, 0.25], dtype=float32)
    """
    del rng
    checks.probability("ratio", ratio)
    return jnp.full(n, ratio, jnp.float32)


def dirichlet(n: int, m: int, rng: PRNGKeyArray, *, alpha: Scalar | tuple[Scalar, Scalar] = 1.0) -> Float[Array, "n m"]:
    r"""Draws weights from the symmetric Dirichlet over m sources, by normalised gamma variates.

    Small gamma variates underflow, so they are drawn and normalised as logarithms. Rows are
    right down to :math:`\alpha = 0.01`, where one source has nearly all of the weight. Rejection
    sampling has no gradient with respect to alpha: jax.grad raises, and jax.jvp ignores that
    alpha changes which proposals are rejected.

    Args:
      n: number of draws.
      m: number of sources.
      rng: a JAX key.
      alpha: concentration, > 0, or a range (low, high) from which each row's is drawn uniformly.
        A Python 1.0 takes exponential variates, which are far cheaper than gamma variates. Not
        checked when traced.

    Returns:
      Float32 weights [n, m], whose rows sum to 1.

    Raises:
      ValueError: if a concrete alpha is not positive and finite, the range is empty, or there
        are no draws or sources.

    Example:
      >>> ratios.dirichlet(2, 3, jax.random.key(0)).shape
      (2, 3)

    References:
      Venkataramanan et al., `Embedding Space Interpolation Beyond Mini-Batch, Beyond Pairs and
      Beyond Examples <https://arxiv.org/abs/2311.05538>`_, 2023;
      Marsaglia & Tsang, `A Simple Method for Generating Gamma Variables
      <https://doi.org/10.1145/358407.358414>`_, 2000
    """
    checks.key(rng)
    checks.at_least_one("n", n)
    checks.at_least_one("m", m)
    alpha_rng, gamma_rng = jax.random.split(rng)
    if isinstance(alpha, tuple):
        concentration = _drawn_from(alpha, n, alpha_rng)
    else:
        checks.positive("alpha", alpha)
        concentration = jnp.asarray(alpha, jnp.float32)
    if isinstance(alpha, float | int) and alpha == 1:
        gamma = jax.random.exponential(gamma_rng, (n, m), jnp.float32)
        log_gamma = jnp.log(jnp.maximum(gamma, 2.0**-24))  # a row of zeros has no shares
    else:
        log_gamma = _log_gamma((n, m), gamma_rng, alpha=concentration)
    return jax.nn.softmax(log_gamma, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _log_gamma(shape: tuple[int, ...], rng: PRNGKeyArray, *, alpha: Array) -> Float[Array, "n m"]:
    """Draws logarithms of gamma variates: by rejection for alpha + 1, then scaled to alpha by a uniform draw's power.

    At most one proposal in twenty is rejected, so a few rounds fill the whole array. A loop for
    each element, as in jax.random, takes several times as long. Without jit here, every call
    outside of jit would compile the loop again.
    """
    power_rng, round_rng = jax.random.split(rng)
    scale = alpha + 2 / 3
    spread = 1 / jnp.sqrt(9 * scale)

    def propose(state: tuple[Array, Array]) -> tuple[Array, Array]:
        cubes, rng = state
        rng, normal_rng, level_rng = jax.random.split(rng, 3)
        normal = jax.random.normal(normal_rng, shape, jnp.float32)
        level = jax.random.exponential(level_rng, shape, jnp.float32)
        root = 1 + spread * normal
        cube = jnp.where(root > 0, root, 1) ** 3
        refused = (root <= 0) | (0.5 * normal**2 + scale * (1 - cube + jnp.log(cube)) <= -level)  # not: nan
        return jnp.where(refused, cubes, cube), rng

    power = jax.random.exponential(power_rng, shape, jnp.float32) / alpha
    start = jnp.zeros_like(power), round_rng
    cubes, _ = jax.lax.while_loop(lambda state: jnp.any(state[0] == 0), propose, start)
    return jnp.log(scale * cubes) - power


def _drawn_from(bounds: tuple[Scalar, Scalar], n: int, rng: PRNGKeyArray) -> Float[Array, "n 1"]:
    """Draws a concentration for each row."""
    low, high = bounds
    checks.positive("the low end of alpha", low)
    checks.positive("the high end of alpha", high)
    if not isinstance(low, jax.Array) and not isinstance(high, jax.Array) and low > high:
        raise ValueError(f"alpha=({low}, {high}) is an empty range: give the lower end first")
    return jax.random.uniform(rng, (n, 1), jnp.float32, low, high)


def mean_squared_share(alpha: float) -> float:
    r"""Returns E[min(ratio, 1 - ratio)^2], the mean square of the smaller of the two shares.

    .. math:: M(\alpha) = \tfrac14 + \frac1{4(2\alpha+1)} - \frac{4^{-\alpha}}{\alpha B(\alpha,\alpha)}

    Args:
      alpha: concentration of the ratio's Beta distribution, a Python number > 0.

    Returns:
      A Python float between 0 (alpha -> 0) and 1/4 (alpha -> infinity).

    Raises:
      ValueError: if alpha is not positive and finite.

    Example:
      >>> round(ratios.mean_squared_share(1.0), 4)
      0.0833

    References:
      Greenewald et al., `k-Mixup Regularization for Deep Learning via Optimal Transport
      <https://arxiv.org/abs/2106.02933>`_, 2021, which measures perturbations by it
    """
    checks.positive("alpha", alpha)
    log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
    return 0.25 + 0.25 / (2 * alpha + 1) - math.exp(-alpha * math.log(4) - math.log(alpha) - log_beta)


def matched_alpha(alpha: float, *, displacement_ratio: float) -> float:
    r"""Returns the alpha that perturbs samples as much with transport as `alpha` does without.

    Transport brings partners nearer, so at equal alpha a larger k changes samples less. This
    function solves :math:`M(\alpha_k) = M(\alpha) / r_k` for :math:`\alpha_k`, which keeps the
    mean squared perturbation; M is `mean_squared_share`.

    Args:
      alpha: the concentration at k = 1, a Python number > 0.
      displacement_ratio: :math:`r_k`, the mean squared distance to the partner at k, divided by
        that at k = 1. `pairings.displacement` measures both.

    Returns:
      The concentration at k, a Python float.

    Raises:
      ValueError: if either number is not positive and finite, or if no alpha perturbs as much
        (M(alpha) / r_k >= 1/4).

    Example:
      >>> round(ratios.matched_alpha(1.0, displacement_ratio=0.5), 2)
      8.04

    References:
      Greenewald et al., `k-Mixup Regularization for Deep Learning via Optimal Transport
      <https://arxiv.org/abs/2106.02933>`_, 2021
    """
    checks.positive("displacement_ratio", displacement_ratio)
    wanted = mean_squared_share(alpha) / displacement_ratio
    if wanted >= 0.25:
        raise ValueError(
            f"no alpha perturbs as much at displacement_ratio={displacement_ratio} as alpha={alpha} does without "
            f"transport: take a ratio above {4 * mean_squared_share(alpha):.3g} (a smaller k) or a smaller alpha"
        )
    low, high = 1e-6, 1.0
    while mean_squared_share(high) < wanted:
        high *= 2
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if mean_squared_share(middle) < wanted else (low, middle)
    return high
