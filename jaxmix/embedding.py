"""MultiMix and Dense MultiMix, which draw points from the convex hull of a whole batch's embeddings.

MultiMix mixes embeddings [m, d] or logits [m, c]. Dense MultiMix mixes feature maps [m, r, d] at
each of r positions, and weighs each example there by its attention. (arXiv 2406.01417 describes
another, unrelated method named MultiMix.)
"""

import functools

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxmix import checks, core, layout, ratios
from jaxmix.attention import gap_attention
from jaxmix.types import AttentionFn, Scalar


def multimix(
    embeddings: Float[Array, "m d"],
    labels: Float[Array, "m c"],
    rng: PRNGKeyArray,
    *,
    num_mixed: int,
    alpha: Scalar | tuple[Scalar, Scalar] = 1.0,
    num_sources: int | None = None,
) -> tuple[Float[Array, "n d"], Float[Array, "n c"]]:
    r"""Draws points from the convex hull of a whole batch.

    .. math:: \tilde Z = \Lambda Z, \quad \tilde Y = \Lambda Y, \quad \Lambda_i \sim \mathrm{Dirichlet}(\alpha)

    Rows of :math:`\Lambda` sum to 1. So if the classifier is linear, mixed embeddings and mixed
    logits give the same result: pass logits, whose width is the number of classes. If the
    classifier is not linear, or dropout precedes it, pass embeddings.

    About (m alpha + 1) / (alpha + 1) examples contribute to each point. For a large m the mixed
    labels are therefore close to the class frequencies, and the loss levels off near their
    entropy. Watch accuracy on clean examples instead.

    Args:
      embeddings: floats [m, d], after pooling, or logits [m, c].
      labels: float targets [m, c].
      rng: a JAX key.
      num_mixed: n, the number of points to draw; may be far larger than m.
      alpha: concentration of the Dirichlet, > 0, or a range (low, high) from which each point's
        is drawn uniformly. Not checked when traced.
      num_sources: number of examples to mix, chosen at random in each call; None mixes all m.

    Returns:
      Mixed embeddings [n, d] and labels [n, c], typed like the inputs.

    Raises:
      ValueError: if shapes do not match, alpha is not positive and finite, num_mixed is less
        than 1, or num_sources is not from 1 to m.
      TypeError: if embeddings or labels are not float.

    Example:
      >>> embeddings, labels = jnp.eye(4), jnp.eye(4)
      >>> mixed, targets = embedding.multimix(embeddings, labels, jax.random.key(0), num_mixed=100)
      >>> mixed.shape, bool(jnp.all(mixed == targets))
      ((100, 4), True)

    References:
      Venkataramanan et al., `Embedding Space Interpolation Beyond Mini-Batch, Beyond Pairs and
      Beyond Examples <https://arxiv.org/abs/2311.05538>`_, 2023
    """
    m = _checked("embeddings", embeddings, 2, labels, rng, num_mixed)
    source_rng, share_rng = jax.random.split(rng)
    if num_sources is not None:
        if not 1 <= num_sources <= m:
            raise ValueError(f"num_sources must be from 1 to the {m} examples, got {num_sources}")
        m, chosen = num_sources, jax.random.permutation(source_rng, m)[:num_sources]
        embeddings, labels = (layout.rows(layout.whole(jnp.asarray(array)), chosen) for array in (embeddings, labels))
    return core.combine(ratios.dirichlet(num_mixed, m, share_rng, alpha=alpha), (embeddings, labels))


def dense_multimix(
    features: Float[Array, "m r d"],
    labels: Float[Array, "m c"],
    rng: PRNGKeyArray,
    *,
    num_mixed: int,
    alpha: Scalar | tuple[Scalar, Scalar] = 1.0,
    attention: AttentionFn | Float[Array, "m r"] = gap_attention,
    per_position: bool = False,
) -> tuple[Float[Array, "n r d"], Float[Array, "n r c"]]:
    r"""Draws points from the convex hull of a whole batch at every position of its feature maps.

    .. math:: w^p_{ij} = \Lambda_{ij} a_{jp} \Big/ \sum_k \Lambda_{ik} a_{kp}, \quad
        \tilde Z^p = w^p Z^p, \quad \tilde Y^p = w^p Y

    :math:`a_{jp}` is the attention of example j at position p, so examples count where they
    attend. Apply the classifier at each position in training, and to the pooled maps at test
    time. If you need the loss only, `dense_multimix_loss` takes less memory: it computes one
    position at a time.

    Args:
      features: maps before pooling [m, r, d], or logits by position [m, r, c].
      labels: float targets [m, c].
      rng: a JAX key.
      num_mixed: n, the number of points to draw at each position.
      alpha: concentration of the Dirichlet, > 0, or a range (low, high) from which each point's
        is drawn uniformly. Not checked when traced.
      attention: a function features -> weights [m, r], through which no gradient flows; or the
        weights themselves, such as the attention of a vision transformer's class token. At a
        position where all weights are 0, the Dirichlet's weights are used.
      per_position: draw new weights at every position; by default all positions share a draw.

    Returns:
      Mixed maps [n, r, d] and labels [n, r, c], typed like the inputs.

    Raises:
      ValueError: if shapes do not match, alpha is not positive and finite, or num_mixed is less
        than 1.
      TypeError: if features or labels are not float.

    Example:
      >>> features, labels = jnp.ones((4, 9, 8)), jnp.eye(4)
      >>> mixed, targets = embedding.dense_multimix(features, labels, jax.random.key(0), num_mixed=100)
      >>> mixed.shape, targets.shape
      ((100, 9, 8), (100, 9, 4))

    References:
      Venkataramanan et al., `Embedding Space Interpolation Beyond Mini-Batch, Beyond Pairs and
      Beyond Examples <https://arxiv.org/abs/2311.05538>`_, 2023
    """
    m = _checked("features", features, 3, labels, rng, num_mixed)
    features, labels = layout.whole(jnp.asarray(features)), layout.whole(jnp.asarray(labels))
    weights = jax.lax.stop_gradient(attention(features)) if callable(attention) else attention
    weights = _attention_of(weights, features)
    draw = functools.partial(ratios.dirichlet, num_mixed, m, alpha=alpha)
    shares = jax.vmap(draw)(jax.random.split(rng, features.shape[1])) if per_position else draw(rng)[None]
    by_position = jax.vmap(_attended)(jnp.broadcast_to(shares, (features.shape[1], num_mixed, m)), weights.T)
    return jax.vmap(core.combine, (0, (1, None)), 1)(by_position, (features, labels))


def dense_multimix_loss(
    logits: Float[Array, "m r c"],
    labels: Float[Array, "m c"],
    rng: PRNGKeyArray,
    *,
    attention: Float[Array, "m r"],
    num_mixed: int,
    alpha: Scalar | tuple[Scalar, Scalar] = 1.0,
    per_position: bool = False,
) -> Float[Array, ""]:
    """Returns Dense MultiMix' mean cross-entropy, computed one position at a time to save memory.

    Value and gradient equal, up to rounding, those of the cross-entropy on the logits and labels
    that `dense_multimix` returns under the same key. The backward pass computes each position
    again rather than storing it.

    Args:
      logits: logits [m, r, c] of a linear classifier at each position.
      labels: float targets [m, c].
      rng: a JAX key.
      attention: weights [m, r]. Gradients flow through them: apply `jax.lax.stop_gradient`
        unless you want that.
      num_mixed: n, the number of points to draw at each position.
      alpha: concentration of the Dirichlet, > 0, or a range (low, high) from which each point's
        is drawn uniformly. Not checked when traced.
      per_position: draw new weights at every position; by default all positions share a draw.

    Returns:
      The mean over the n r points, a float32 scalar.

    Raises:
      ValueError: if shapes do not match, alpha is not positive and finite, or num_mixed is less
        than 1.
      TypeError: if logits or labels are not float.

    Example:
      >>> logits, labels = jnp.zeros((4, 9, 4)), jnp.eye(4)
      >>> loss = embedding.dense_multimix_loss(
      ...     logits, labels, jax.random.key(0), attention=jnp.ones((4, 9)), num_mixed=100)
      >>> f"{loss:.4f}"  # of uniform predictions: log 4
      '1.3863'

    References:
      Venkataramanan et al., `Embedding Space Interpolation Beyond Mini-Batch, Beyond Pairs and
      Beyond Examples <https://arxiv.org/abs/2311.05538>`_, 2023
    """
    m = _checked("logits", logits, 3, labels, rng, num_mixed)
    attention = _attention_of(attention, logits)
    wide, targets = (layout.whole(jnp.asarray(array, jnp.float32)) for array in (logits, labels))
    draw = functools.partial(ratios.dirichlet, num_mixed, m, alpha=alpha)
    shared = None if per_position else draw(rng)

    @jax.checkpoint
    def add(total: Array, position: tuple[Array, Array, Array]) -> tuple[Array, None]:
        outputs, weights, key = position
        shares = draw(key) if shared is None else shared
        mix = _attended(shares, weights)
        mixed = jax.nn.log_softmax(jnp.matmul(mix, outputs, precision="highest"))
        return total - jnp.mean(jnp.sum(jnp.matmul(mix, targets, precision="highest") * mixed, axis=-1)), None

    positions = jnp.swapaxes(wide, 0, 1), attention.T, jax.random.split(rng, wide.shape[1])
    total, _ = jax.lax.scan(add, jnp.zeros_like(wide[0, 0, 0]), positions)
    return total / wide.shape[1]


def _attended(shares: Float[Array, "n m"], attention: Float[Array, " m"]) -> Float[Array, "n m"]:
    """Returns shares times attention, normalised; the shares alone if their product is 0."""
    product = shares * attention[None]
    total = jnp.sum(product, axis=1, keepdims=True)
    empty = total <= 0
    return jnp.where(empty, shares, product / jnp.where(empty, 1, total))


def _attention_of(attention: Float[Array, "m r"], features: Float[Array, "m r d"]) -> Float[Array, "m r"]:
    """Returns attention in float32, after checking that it has one weight per example and position."""
    if jnp.shape(attention) != jnp.shape(features)[:2]:
        raise ValueError(
            f"attention has shape {jnp.shape(attention)}, and there are {jnp.shape(features)[:2]} "
            "examples and positions: pass one weight for each"
        )
    return layout.whole(jnp.asarray(attention, jnp.float32))


def _checked(name: str, array: Array, ndim: int, labels: Array, rng: PRNGKeyArray, num_mixed: int) -> int:
    """Returns the number of examples, after checking the arguments."""
    checks.key(rng)
    checks.floats(name, array)
    checks.at_least_one("num_mixed", num_mixed)
    if jnp.ndim(array) != ndim or not jnp.size(array):
        axes = "[m, d]" if ndim == 2 else "[m, r, d]"
        raise ValueError(f"{name} must have shape {axes} without a 0, got shape {jnp.shape(array)}")
    checks.targets(labels, jnp.shape(array)[0])
    return jnp.shape(array)[0]
