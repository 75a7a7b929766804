"""FMix' mask against complex noise and numpy's Fourier transform, as its paper writes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix import masks
from jaxmix.masks import noise


def frequencies(space):
    """The frequency of every place of a full transform, bounded from below."""
    along = np.ix_(*[np.fft.fftfreq(length) for length in space])
    return np.maximum(np.sqrt(sum(f**2 for f in along)), 1 / max(space))


def by_hand(space, ratio, decay, n, seed=0):
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n, *space)) + 1j * rng.standard_normal((n, *space))
    field = np.fft.ifftn(white / frequencies(space) ** decay, axes=range(1, 1 + len(space))).real
    order = np.argsort(np.argsort(-field.reshape(n, -1), axis=1), axis=1)
    return (order < np.round(ratio * np.prod(space))).reshape(n, *space)


def pairs_kept(weight):
    """How many pairs of places at each displacement are both kept, of every sample: [n, places]."""
    axes = range(1, weight.ndim)
    spectrum = np.abs(np.fft.fftn(np.asarray(weight, np.float64), axes=axes)) ** 2
    return np.fft.ifftn(spectrum, axes=axes).real.reshape(len(weight), -1)


@pytest.mark.parametrize(
    ("space", "ratio", "decay"),
    [
        ((64,), 0.5, 3.0),
        ((12, 10), 0.3, 3.0),
        ((7, 10), 0.5, 1.0),
        ((1, 9), 0.6, 2.0),
        ((4, 3, 5), 0.5, 3.0),
        ((6, 5), 0.5, 0.0),
    ],
)
def test_what_is_kept_together_is_as_in_the_transform_of_complex_noise(space, ratio, decay):
    """At every displacement. Where cut noise is Gaussian, how often two places go together says its covariance."""
    n = 3000
    mask = jax.jit(functools.partial(masks.fourier, space))  # decay is traced in the second call: nothing is left out
    drawn = (
        mask(jnp.full(n, ratio), jax.random.key(1))
        if decay == 3
        else mask(jnp.full(n, ratio), jax.random.key(1), decay=decay)
    )
    found, expected = pairs_kept(drawn), pairs_kept(by_hand(space, ratio, decay, 4 * n))
    error = np.sqrt(found.var(0) / n + expected.var(0) / (4 * n))
    np.testing.assert_array_less(np.abs(found.mean(0) - expected.mean(0)), 4.5 * error + 1e-9)
    assert len(np.unique(np.asarray(drawn).reshape(n, -1), axis=0)) > space[-1]


@pytest.mark.parametrize("space", [(6,), (1, 9), (5, 1, 4), (2, 3, 4), (32, 31), (64, 64)])
def test_as_many_places_are_kept_as_the_ratio_says(space):
    ratio = jnp.concatenate([jnp.array([0.0, 1.0]), jax.random.uniform(jax.random.key(0), (62,))])
    kept = masks.fourier(space, ratio, jax.random.key(1))
    assert kept.shape == (64, *space)
    assert kept.dtype == jnp.bool_
    places = np.asarray(kept.sum(range(1, kept.ndim)))
    np.testing.assert_array_equal(places, np.round(np.asarray(ratio) * np.float32(np.prod(space))))


@pytest.mark.parametrize(("space", "tolerance"), [((224, 224), 0.005), ((16, 64, 64), 0.02), ((20000,), 0.001)])
def test_of_many_places_the_share_kept_is_near_the_ratio(space, tolerance):
    ratio = jnp.concatenate([jnp.array([0.0, 1.0]), jax.random.uniform(jax.random.key(0), (14,))])
    share = np.asarray(masks.fourier(space, ratio, jax.random.key(1)).mean(range(1, 1 + len(space))))
    np.testing.assert_allclose(share, ratio, atol=tolerance)
    np.testing.assert_array_equal(share[:2], [0, 1])


@pytest.mark.parametrize(("space", "decay"), [((224, 224), 3.0), ((100, 64), 3.0), ((33, 8, 20), 4.0), ((500,), 2.0)])
def test_frequencies_that_are_left_out_hold_less_than_a_hundred_thousandth_of_the_variance(space, decay):
    """Of all but the constant, and the next that stays would hold more."""
    variance = frequencies(space) ** (-2 * decay)
    variance.flat[0] = 0

    def left_out(kept):
        harmonics = [np.abs(np.round(np.fft.fftfreq(length) * length)) for length in space]
        stays = np.ix_(*[np.flatnonzero(k <= highest) for k, highest in zip(harmonics, kept, strict=True)])
        return 1 - variance[stays].sum() / variance.sum()

    kept = noise._kept(space, decay)
    assert left_out(kept) < 1e-5 < left_out([k - 1 for k in kept])
    assert any(2 * k < length - 1 for k, length in zip(kept, space, strict=True))


@pytest.mark.parametrize("decay", [-1.0, float("nan"), float("inf")])
def test_decays_without_a_law_are_refused(decay):
    with pytest.raises(ValueError, match=f"decay must be at least 0 and finite, got {decay}"):
        masks.fourier((4, 4), jnp.ones(2), jax.random.key(0), decay=decay)
