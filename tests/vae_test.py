"""The VAE: shapes, and its loss against double loops and closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxmix import vae


def model(shape=(28, 28, 1), **sizes):
    built = vae.VAE(image_shape=shape, **({"latent_size": 6, "widths": (8, 12)} | sizes))
    images = jax.random.uniform(jax.random.key(1), (5, *shape))
    return built, jax.jit(built.init)(jax.random.key(0), images, jax.random.key(2)), images


@pytest.fixture(autouse=True)
def _promotion_as_flax_needs_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 14, 2)])
def test_any_image_size_goes_in_and_comes_out(shape):
    built, variables, images = model(shape, widths=(8, 8, 12))

    @jax.jit
    def parts(variables, images):
        outputs = built.apply(variables, images, jax.random.key(3))
        return (
            outputs,
            built.apply(variables, images, method="encode"),
            built.apply(variables, outputs.latents, method="decode"),
        )

    outputs, (mean, log_variance), decoded = parts(variables, images)
    assert outputs.images.shape == images.shape
    assert outputs.latents.shape == outputs.mean.shape == outputs.log_variance.shape == (5, 6)
    assert float(outputs.images.min()) > 0
    assert float(outputs.images.max()) < 1
    np.testing.assert_allclose(outputs.mean, mean, atol=1e-5)
    np.testing.assert_allclose(outputs.log_variance, log_variance, atol=1e-5)
    np.testing.assert_allclose(outputs.images, decoded, atol=1e-5)


@pytest.mark.slow
def test_latents_are_samples_of_the_posterior():
    built, variables, images = model()
    sample = jax.jit(jax.vmap(built.apply, (None, None, 0)))
    outputs = sample(variables, images, jax.random.split(jax.random.key(3), 500))
    mean, deviation = outputs.mean[0], jnp.exp(outputs.log_variance[0] / 2)
    standard = (outputs.latents - mean) / deviation
    assert float(jnp.abs(standard.mean(0)).max()) < 5 / 500**0.5
    assert float(jnp.abs(standard.var(0) - 1).max()) < 5 * (2 / 500) ** 0.5


def test_a_sample_does_not_depend_on_its_batch():
    built, variables, images = model()
    encode = jax.jit(functools.partial(built.apply, method="encode"))
    whole, one = (encode(variables, part)[0] for part in (images, images[:1]))
    np.testing.assert_allclose(whole[:1], one, atol=1e-5)


def similarity(a, b, kernel):
    distance, scale = float(((a - b) ** 2).sum()), 2 * len(a)
    return math.exp(-distance / scale) if kernel == "gaussian" else scale / (scale + distance)


@pytest.mark.parametrize("kernel", ["gaussian", "inverse_multiquadric"])
def test_mmd_is_its_double_loop(kernel):
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 1, (5, 3)), rng.normal(0, 2, (7, 3))

    def of_others(z):
        pairs = [similarity(a, b, kernel) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return sum(pairs) / len(pairs)

    across = [similarity(a, b, kernel) for a in x for b in y]
    expected = of_others(x) + of_others(y) - 2 * sum(across) / len(across)
    found = vae.squared_mmd(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), kernel=kernel)
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["gaussian", "inverse_multiquadric"])
def test_mmd_is_unbiased_and_sees_a_shift_in_many_dimensions(kernel):
    """At d = 128 a kernel that is too narrow sees nothing."""

    @jax.jit
    def estimates(rngs, shift):
        def estimate(rng):
            x, y = jax.random.normal(rng, (2, 64, 128))
            return vae.squared_mmd(x + shift, y, kernel=kernel)

        return jax.vmap(estimate)(rngs)

    rngs = jax.random.split(jax.random.key(4), 500)
    equal, moved = (np.asarray(estimates(rngs, shift), np.float64) for shift in (0.0, 0.3))
    assert abs(equal.mean()) < 4 * equal.std() / 500**0.5
    assert moved.mean() > 20 * equal.std()


def test_the_loss_is_its_terms_by_their_weights():
    rng = np.random.default_rng(0)
    images, decoded = (jnp.asarray(rng.uniform(size=(4, 3, 3, 2)), jnp.float32) for _ in range(2))
    latents, mean, log_variance = (jnp.asarray(rng.normal(size=(4, 5)), jnp.float32) for _ in range(3))
    outputs, key = vae.Outputs(decoded, latents, mean, log_variance), jax.random.key(7)
    loss, terms = vae.vae_loss(images, outputs, key, mmd_weight=30.0, kl_weight=0.5, kernel="inverse_multiquadric")
    assert float(terms.reconstruction) == pytest.approx(float(((images - decoded) ** 2).sum() / 4), rel=1e-5)
    variance = np.exp(log_variance)
    divergence = (
        sum(0.5 * (m**2 + v - 1 - math.log(v)) for m, v in zip(mean.ravel(), variance.ravel(), strict=True)) / 4
    )
    assert float(terms.kl) == pytest.approx(float(divergence), rel=1e-5)
    prior = jax.random.normal(key, (4, 5))
    expected = vae.squared_mmd(latents, prior, kernel="inverse_multiquadric")
    assert float(terms.mmd) == pytest.approx(float(expected), abs=1e-6)
    assert float(loss) == pytest.approx(float(terms.reconstruction + 30 * terms.mmd + 0.5 * terms.kl), rel=1e-5)


def test_gradients_reach_every_parameter_and_are_finite():
    built, variables, images = model(widths=(8, 12))

    def loss(variables):
        outputs = built.apply(variables, images, jax.random.key(3))
        return vae.vae_loss(images, outputs, jax.random.key(4), kl_weight=1.0)[0]

    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss))(variables)):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    built, variables, images = model()
    encode = functools.partial(built.apply, variables, method="encode")
    with pytest.raises(TypeError, match="images must be floats, got dtype uint8: pass, for example, uint8"):
        encode((255 * images).astype(jnp.uint8))
    with pytest.raises(ValueError, match=r"images have shape .*32, 32, 1.*this VAE takes \[n, \*\(28, 28, 1\)\]"):
        encode(jnp.zeros((2, 32, 32, 1)))
    for sizes, message in (
        ({"shape": (7, 9, 1)}, "sides of at least 8"),
        ({"widths": ()}, "latent_size=6, widths="),
        ({"latent_size": 0}, "latent_size=0"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**sizes)
    with pytest.raises(ValueError, match="unknown kernel 'box': take one of gaussian, inverse_multiquadric"):
        vae.squared_mmd(jnp.zeros((2, 1)), jnp.zeros((2, 1)), kernel="box")
    with pytest.raises(ValueError, match="n and m at least 2"):
        vae.squared_mmd(jnp.zeros((1, 1)), jnp.zeros((2, 1)))
    outputs = jax.jit(built.apply)(variables, images, jax.random.key(0))
    with pytest.raises(ValueError, match="mmd_weight must be at least 0"):
        vae.vae_loss(images, outputs, jax.random.key(0), mmd_weight=-1.0)
    with pytest.raises(ValueError, match="but the VAE returned"):
        vae.vae_loss(images[:2], outputs, jax.random.key(0))
