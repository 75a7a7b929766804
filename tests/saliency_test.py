import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft, ndimage

from jaxmix import saliency
from tests.conftest import images


def by_scipy(image, places):
    """The formula for one sample [*space, c], in float64: cells one by one, filters of scipy."""
    gray = np.asarray(image, np.float64).mean(-1)
    step = -(-max(gray.shape) // places)
    for axis, length in enumerate(gray.shape):
        count = -(-length // step)
        cells = np.arange(length) * count // length
        means = [np.compress(cells == cell, gray, axis).mean(axis) for cell in range(count)]
        gray = np.stack(means, axis)
    spectrum = fft.fftn(gray)
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    log = np.log(np.maximum(amplitude, 1e-6 * amplitude.max()))
    residual = np.log(amplitude) - ndimage.uniform_filter(log, 3, mode="wrap")
    salient = np.abs(fft.ifftn(np.exp(residual + 1j * phase))) ** 2
    return ndimage.gaussian_filter(salient, 2.5 / 64 * max(gray.shape), mode="constant", truncate=30)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "uint8"])
def test_spectral_residuals_are_those_of_the_formula(dtype):
    batch = images(2, (23, 9), 3, dtype=dtype)
    maps = saliency.spectral_residual({"image": batch, "table": jnp.ones((2, 9))}, places=12)
    assert (maps.shape, maps.dtype) == ((2, 12, 5), jnp.float32)
    expected = [by_scipy(image, 12) for image in batch]
    np.testing.assert_allclose(maps, expected, rtol=2e-3, atol=1e-4 * np.max(expected))


@pytest.mark.parametrize("space", [(40,), (1, 21), (6, 5, 7)], ids=["sequence", "flat_image", "video"])
def test_spectral_residuals_are_of_any_rank_and_at_most_as_many_places_as_asked_for(space):
    batch = images(1, space, 2)
    expected = by_scipy(batch[0], 64)
    np.testing.assert_allclose(saliency.spectral_residual(batch)[0], expected, rtol=2e-3, atol=1e-4 * expected.max())
    coarse = saliency.spectral_residual(batch, places=7)
    assert max(coarse.shape[1:]) <= 7


@pytest.mark.parametrize("size", [32, 100])
def test_a_bright_patch_in_a_texture_is_found(size):
    """Within its own width of it, in each of 40 samples."""
    rng = np.random.default_rng(0)
    side = size // 8
    corners = rng.integers(0, size - side, (40, 2))
    batch = 0.3 * rng.normal(size=(40, size, size, 3)).astype(np.float32)
    for sample, (y, x) in zip(batch, corners, strict=True):
        sample[y : y + side, x : x + side] += 2
    maps = np.asarray(saliency.spectral_residual(jnp.asarray(batch)))
    highest = np.stack(np.unravel_index(maps.reshape(40, -1).argmax(1), maps.shape[1:]), 1) + 0.5
    assert np.all(np.abs(highest * size / maps.shape[1] - corners - side / 2) < side)


def test_maps_do_not_depend_on_the_scale_and_constant_samples_have_finite_ones():
    batch = images(2, (8, 8), 1)
    maps = saliency.spectral_residual(batch)
    np.testing.assert_allclose(saliency.spectral_residual(2.0**20 * batch), maps, rtol=1e-4)
    for constant in (0.0, 1.0, 1e-30, 1e30):
        maps = saliency.spectral_residual(jnp.full((1, 9, 8, 3), constant))
        assert np.all(np.isfinite(maps) & (maps >= 0))


def test_what_has_no_salience_is_refused():
    with pytest.raises(TypeError, match="must be float, or uint8 pixels, got dtype int32: pass guide, a func"):
        saliency.spectral_residual(jnp.ones((2, 4, 4, 1), jnp.int32))
    with pytest.raises(ValueError, match="needs an axis longer than 1"):
        saliency.spectral_residual(jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="places must be at least 1"):
        saliency.spectral_residual(jnp.ones((2, 4, 4, 1)), places=0)


def test_maps_of_a_sample_are_its_own():
    batch = images(3, (6, 5), 2)
    spoilt = saliency.spectral_residual(batch.at[1].set(jnp.nan))
    np.testing.assert_allclose(
        spoilt[::2], jax.vmap(lambda x: saliency.spectral_residual(x[None])[0])(batch)[::2], rtol=1e-4
    )
