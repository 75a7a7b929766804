"""MultiMix and Dense MultiMix: the convex hull of a batch, and where attention puts its points."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import jaxmix
from jaxmix import embedding, ratios
from jaxmix.attention import gap_attention

KEY = jax.random.key(11)


def examples(m=6, r=5, d=4, c=3, dtype=jnp.float32):
    """Feature maps and soft labels."""
    rng = np.random.default_rng(0)
    labels = rng.dirichlet(np.ones(c), m)
    return jnp.asarray(rng.normal(1, 1, (m, r, d)), dtype), jnp.asarray(labels, dtype)


# --- MultiMix


def test_multimix_is_the_dirichlet_s_weights_times_the_batch():
    features, labels = examples()
    mixed, targets = jaxmix.multimix(features[:, 0], labels, KEY, num_mixed=50, alpha=0.7)
    assert (mixed.shape, targets.shape) == ((50, 4), (50, 3))
    _, share_rng = jax.random.split(KEY)
    shares = np.asarray(ratios.dirichlet(50, 6, share_rng, alpha=0.7), np.float64)
    np.testing.assert_allclose(mixed, shares @ np.asarray(features[:, 0], np.float64), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(targets, shares @ np.asarray(labels, np.float64), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_mixed_logits_are_the_logits_of_mixed_embeddings():
    """Under a linear head, to float32's rounding: the loss costs nothing in the embeddings' width."""
    features, labels = examples(d=64)
    rng = np.random.default_rng(1)
    kernel, bias = jnp.asarray(rng.normal(size=(64, 3)) / 8, jnp.float32), jnp.asarray(rng.normal(size=3), jnp.float32)

    def logits(embeddings):
        return jnp.matmul(embeddings, kernel, precision="highest") + bias[None]

    mix = functools.partial(jaxmix.multimix, num_mixed=200, alpha=(0.5, 2.0))
    mixed, targets = mix(features[:, 0], labels, KEY)
    mixed_logits, same_targets = mix(logits(features[:, 0]), labels, KEY)
    np.testing.assert_array_equal(targets, same_targets)
    losses = [optax.softmax_cross_entropy(z, targets).mean() for z in (logits(mixed), mixed_logits)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


def test_points_mix_only_the_sources_asked_for():
    """Of unit vectors a mixed row shows its weights."""
    mixed, targets = jaxmix.multimix(jnp.eye(8), jnp.eye(8), KEY, num_mixed=40, num_sources=3)
    used = np.flatnonzero(np.asarray(mixed).max(0))
    assert len(used) == 3
    np.testing.assert_array_equal(mixed, targets)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    others = {
        tuple(
            np.flatnonzero(
                np.asarray(
                    jaxmix.multimix(jnp.eye(8), jnp.eye(8), jax.random.key(s), num_mixed=4, num_sources=3)[0]
                ).max(0)
            )
        )
        for s in range(6)
    }
    assert len(others) > 1


def test_two_weights_that_are_not_zero_are_mixup():
    batch, labels = jnp.asarray(np.random.default_rng(2).normal(size=(4, 5)), jnp.float32), jnp.eye(4)
    record = jaxmix.Mix(jnp.array([2, 0, 3, 1]), jnp.array([0.25, 0.5, 0.75, 1.0]))
    weights = jax.nn.one_hot(jnp.arange(4), 4) * record.weight[:, None]
    weights += jax.nn.one_hot(record.partner, 4) * (1 - record.weight[:, None])
    combined = jaxmix.combine(weights, (batch, labels))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6), combined, jaxmix.apply(record, batch, labels)
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_mixed_in_float32(dtype):
    features, labels = examples(dtype=dtype)
    wide = examples()[0].astype(dtype).astype(jnp.float32), labels.astype(jnp.float32)
    for mix, maps in ((jaxmix.multimix, lambda z: z[:, 0]), (jaxmix.dense_multimix, lambda z: z)):
        narrow = mix(maps(features), labels, KEY, num_mixed=10)
        exact = mix(maps(wide[0]), wide[1], KEY, num_mixed=10)
        for got, want in zip(narrow, exact, strict=True):
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, want.astype(dtype))


# --- Dense MultiMix


def test_two_examples_at_equal_shares_are_weighed_by_their_attention():
    """By hand: shares of a half, attention .6 and .3, give two thirds and one third."""
    shares = embedding._attended(jnp.array([[0.5, 0.5]]), jnp.array([0.6, 0.3]))
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3]], rtol=1e-6)
    np.testing.assert_allclose(embedding._attended(jnp.array([[0.2, 0.8]]), jnp.zeros(2)), [[0.2, 0.8]])


@pytest.mark.parametrize("per_position", [False, True])
def test_dense_multimix_is_its_definition_at_every_position(per_position):
    features, labels = examples()
    attention = jnp.asarray(np.random.default_rng(4).uniform(size=(6, 5)), jnp.float32).at[:, 2].set(0)
    mixed, targets = jaxmix.dense_multimix(
        features, labels, KEY, num_mixed=20, alpha=0.8, attention=attention, per_position=per_position
    )
    assert (mixed.shape, targets.shape) == ((20, 5, 4), (20, 5, 3))
    keys = jax.random.split(KEY, 5) if per_position else [KEY] * 5
    for p, key in enumerate(keys):
        shares = np.asarray(ratios.dirichlet(20, 6, key, alpha=0.8), np.float64)
        weights = shares if p == 2 else shares * np.asarray(attention)[:, p]
        weights = weights / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(mixed[:, p], weights @ np.asarray(features[:, p], np.float64), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(targets[:, p], weights @ np.asarray(labels, np.float64), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("per_position", [False, True])
def test_the_loss_by_position_is_that_of_all_positions_and_so_is_its_gradient(per_position):
    logits, labels = examples(d=3)
    attention = jnp.asarray(np.random.default_rng(4).uniform(size=(6, 5)), jnp.float32).at[:, 2].set(0)
    options = {"num_mixed": 30, "alpha": (0.5, 2.0), "per_position": per_position}

    def whole(logits, attention):
        mixed, targets = jaxmix.dense_multimix(logits, labels, KEY, attention=attention, **options)
        return optax.softmax_cross_entropy(mixed, targets).mean()

    def by_position(logits, attention):
        return embedding.dense_multimix_loss(logits, labels, KEY, attention=attention, **options)

    results = [jax.jit(jax.value_and_grad(loss, (0, 1)))(logits, attention) for loss in (whole, by_position)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *results)
    assert np.isfinite(results[1][1][1]).all()
    assert float(jnp.abs(results[1][1][1]).max()) > 1e-4


def test_no_gradient_flows_through_attention_unless_it_is_given():
    features, labels = examples()

    def first(features, attention):
        mixed, _ = jaxmix.dense_multimix(features, labels, KEY, num_mixed=8, attention=attention)
        return mixed[..., 0].sum()

    fixed = gap_attention(features)
    through_function = jax.grad(first)(features, gap_attention)
    np.testing.assert_allclose(through_function, jax.grad(first)(features, fixed), rtol=1e-5, atol=1e-6)


def test_the_order_of_examples_does_not_matter():
    """Of examples and attention exchanged alike, with the columns of the weights."""
    features, _ = examples()
    order = np.array([3, 1, 0, 5, 4, 2])
    attention = gap_attention(features)
    np.testing.assert_allclose(gap_attention(features[order]), attention[order], rtol=1e-6)
    shares = ratios.dirichlet(10, 6, KEY)
    one = embedding._attended(shares, attention[:, 0]) @ features[:, 0]
    other = embedding._attended(shares[:, order], attention[order, 0]) @ features[order, 0]
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_loss_holds_one_position_at_a_time():
    """A network for 1,000 classes, 49 positions: targets of all positions alone would take 196 MB."""
    m, r, n, c = 128, 49, 1000, 1000
    shapes = jax.ShapeDtypeStruct((m, r, c), jnp.float32), jax.ShapeDtypeStruct((m, c), jnp.float32)
    weights = jax.ShapeDtypeStruct((m, r), jnp.float32)

    def loss(logits, labels, attention):
        return embedding.dense_multimix_loss(logits, labels, KEY, attention=attention, num_mixed=n)

    compiled = jax.jit(jax.value_and_grad(loss)).lower(*shapes, weights).compile()
    memory = compiled.memory_analysis()
    assert 4e6 < memory.temp_size_in_bytes + memory.output_size_in_bytes < 300e6


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    features, labels = examples()
    with pytest.raises(ValueError, match="num_mixed must be at least 1, got 0"):
        jaxmix.multimix(features[:, 0], labels, KEY, num_mixed=0)
    with pytest.raises(ValueError, match="num_sources must be from 1 to the 6 examples, got 7"):
        jaxmix.multimix(features[:, 0], labels, KEY, num_mixed=2, num_sources=7)
    with pytest.raises(ValueError, match=r"embeddings must have shape \[m, d\] without a 0, got shape \(6, 5, 4\)"):
        jaxmix.multimix(features, labels, KEY, num_mixed=2)
    with pytest.raises(ValueError, match=r"features must have shape \[m, r, d\]"):
        jaxmix.dense_multimix(features[:, 0], labels, KEY, num_mixed=2)
    with pytest.raises(TypeError, match=r"pass float targets, such as jax\.nn\.one_hot"):
        jaxmix.multimix(features[:, 0], jnp.arange(6), KEY, num_mixed=2)
    with pytest.raises(TypeError, match="embeddings must be floats, got dtype uint8"):
        jaxmix.multimix(features[:, 0].astype(jnp.uint8), labels, KEY, num_mixed=2)
    with pytest.raises(
        ValueError, match=r"attention has shape \(6, 4\), and there are \(6, 5\) examples and positions"
    ):
        jaxmix.dense_multimix(features, labels, KEY, num_mixed=2, attention=jnp.ones((6, 4)))
    for alpha in (0.0, (0.5, 0.0)):
        with pytest.raises(ValueError, match=r"alpha must be positive and finite, got 0\.0"):
            jaxmix.multimix(features[:, 0], labels, KEY, num_mixed=2, alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha=\(2.0, 0.5\) is an empty range"):
        jaxmix.multimix(features[:, 0], labels, KEY, num_mixed=2, alpha=(2.0, 0.5))
