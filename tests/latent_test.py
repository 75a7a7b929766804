"""VarMixup against its definition, with encoders and decoders that can be checked by hand."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import jaxmix
from jaxmix import latent, pairings, ratios

KEY = jax.random.key(5)
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0].astype(np.float32)


def encode(images):
    return jnp.arctanh(0.9 * (2 * images.reshape(len(images), 12) - 1)) @ TURN


def decode(latents):
    return ((jnp.tanh(latents @ TURN.T) / 0.9 + 1) / 2).reshape(-1, 2, 3, 2)


def examples(n=6):
    return jnp.asarray(np.random.default_rng(1).uniform(size=(n, 2, 3, 2)), jnp.float32), jnp.eye(n)


def draws(n, alpha):
    """Partner and ratio as the method draws them."""
    pairing_rng, ratio_rng, _ = jax.random.split(KEY, 3)
    partner = np.asarray(pairings.permutation(jnp.zeros((n, 1)), pairing_rng))
    return partner, np.asarray(ratios.beta(n, ratio_rng, alpha=alpha), np.float64)


def arc(own, other, ratio):
    """Spherical interpolation of two vectors, from the angle that the scalar product gives."""
    angle = np.arccos(own @ other / np.linalg.norm(own) / np.linalg.norm(other))
    return (np.sin(ratio * angle) * own + np.sin((1 - ratio) * angle) * other) / np.sin(angle)


@pytest.mark.parametrize("interpolation", ["linear", "slerp"])
def test_varmixup_with_fixed_draws_is_the_definition(interpolation):
    images, labels = examples()
    mix = functools.partial(jaxmix.varmixup, encode=encode, decode=decode, alpha=0.6, interpolation=interpolation)
    mixed, targets = jax.jit(mix)(images, labels, KEY)
    partner, ratio = draws(6, 0.6)
    z = np.asarray(encode(images), np.float64)
    along = {"linear": lambda a, b, share: share * a + (1 - share) * b, "slerp": arc}[interpolation]
    pairs = zip(range(6), partner, ratio, strict=True)
    expected = np.stack([z[i] if i == j else along(z[i], z[j], share) for i, j, share in pairs])
    np.testing.assert_allclose(mixed, decode(jnp.asarray(expected, jnp.float32)), rtol=1e-4, atol=1e-5)
    eye = np.eye(6)
    np.testing.assert_allclose(targets, ratio[:, None] * eye + (1 - ratio)[:, None] * eye[partner], atol=1e-6)
    assert (partner != np.arange(6)).any()


def test_arcs_keep_the_norm_that_lines_shrink():
    """Of independent codes at equal shares, to 1 against the root of a half."""
    codes = jax.random.normal(KEY, (400, 256))
    shares = jnp.full(200, 0.5)
    norms = jnp.linalg.norm(codes, axis=1)
    along_arcs = jnp.linalg.norm(latent._slerp(codes[:200], codes[200:], shares), axis=1)
    along_lines = jnp.linalg.norm((codes[:200] + codes[200:]) / 2, axis=1)
    assert float(along_arcs.mean() / norms.mean()) == pytest.approx(1, abs=0.01)
    assert float(along_lines.mean() / norms.mean()) == pytest.approx(0.5**0.5, abs=0.01)


@pytest.mark.parametrize(
    "other", [[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0], [0.0, 0.0]], ids=["equal", "parallel", "opposite", "zero"]
)
def test_where_there_is_no_one_arc_the_line_is_taken(other):
    own, other = jnp.array([[3.0, 4.0]]), jnp.array([other])
    for share in (0.0, 0.25, 1.0):
        found = latent._slerp(own, other, jnp.array([share]))
        np.testing.assert_allclose(found, share * own + (1 - share) * other, atol=1e-5)


def test_any_pairing_and_any_policy_mix_latents():
    images, labels = examples(8)
    matching = functools.partial(pairings.transport, k=4, solver="exact")
    one = jaxmix.varmixup(images, labels, KEY, encode=encode, decode=decode, pairing=matching)
    in_latent_space = jaxmix.in_latent_space(
        functools.partial(jaxmix.kmixup, k=4, solver="exact"), encode=encode, decode=decode
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), one, in_latent_space(images, labels, KEY))


@pytest.mark.parametrize("real_fraction", [0.25, 1.0])
def test_a_share_of_the_samples_stays_real(real_fraction):
    images = jax.random.uniform(KEY, (4000, 2))
    mixed, labels = jaxmix.varmixup(
        images, images, KEY, encode=lambda x: x, decode=lambda z: z + 2, real_fraction=real_fraction
    )
    real = np.asarray((mixed == images).all(1))
    assert real.mean() == pytest.approx(real_fraction, abs=0.03)
    np.testing.assert_array_equal(labels[real], images[real])
    assert (mixed[~real] >= 2).all()


def test_no_gradient_flows_through_encoder_and_decoder():
    images, labels = examples()

    def total(images, gain, method):
        decoded, _ = method(images, labels, KEY, encode=lambda x: gain * encode(x), decode=lambda z: decode(gain * z))
        return decoded.sum()

    climbing = functools.partial(latent.adversarial_varmixup, loss=lambda x, y: (x**2).sum(), epsilon=0.1)
    for method in (jaxmix.varmixup, climbing, lambda x, y, rng, **parts: (latent.reconstruct(x, **parts), y)):
        for gradient in jax.grad(total, (0, 1))(images, 0.9, method):
            np.testing.assert_array_equal(gradient, 0)


def test_mixed_latents_climb_within_their_box():
    """The loss is linear in the latents: all coordinates go to the same corner, in one step or many."""
    images, labels = examples()
    slope = jnp.asarray(np.random.default_rng(2).normal(size=(6, 12)), jnp.float32)
    parts = {"encode": encode, "decode": lambda z: z.reshape(6, 2, 3, 2), "alpha": 0.6}
    start, targets = jaxmix.varmixup(images, labels, KEY, **parts)
    seen = []

    def loss(decoded, labels):
        seen.append(labels)
        return (decoded.reshape(6, 12) * slope).sum()

    for num_steps in (1, 4):
        moved, same = latent.adversarial_varmixup(
            images, labels, KEY, loss=loss, epsilon=0.3, num_steps=num_steps, **parts
        )
        shift = (moved - start).reshape(6, 12)
        np.testing.assert_allclose(shift, 0.3 * np.sign(slope), atol=1e-5)
        np.testing.assert_array_equal(same, targets)
    few, _ = latent.adversarial_varmixup(images, labels, KEY, loss=lambda x, y: 0.0 * x.sum(), epsilon=0.3, **parts)
    np.testing.assert_allclose(few, start, atol=1e-6)
    np.testing.assert_array_equal(seen[0], targets)


def test_a_reconstruction_is_what_comes_back():
    images, _ = examples()
    np.testing.assert_allclose(latent.reconstruct(images, encode=encode, decode=decode), images, atol=1e-4)


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images, labels = examples()
    parts = {"encode": encode, "decode": decode}
    for options, message in (
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic': take one of linear, slerp"),
        ({"real_fraction": 1.5}, r"real_fraction must lie in \[0, 1\], got 1.5"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        ({"decode": lambda z: z}, "decode returns .*12.*, but the batch is"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxmix.varmixup(images, labels, KEY, **(parts | options))
    with pytest.raises(ValueError, match="decode returns"):
        latent.reconstruct(images, encode=encode, decode=lambda z: z)
    for options, message in (({"epsilon": 0.0}, "epsilon must be positive"), ({"num_steps": 0}, "num_steps must be")):
        climb = functools.partial(latent.adversarial_varmixup, loss=lambda x, y: x.sum(), epsilon=0.1, **parts)
        with pytest.raises(ValueError, match=message):
            climb(images, labels, KEY, **options)
