"""Each corruption against numpy, scipy, matplotlib or Pillow given the same draws, and each draw against its law."""

import functools
import inspect
import io
import math

import jax
import jax.numpy as jnp
from matplotlib import colors
import numpy as np
from PIL import Image
import pytest
from scipy import ndimage

from jaxmix.evaluation import corruptions
from jaxmix.evaluation.corruptions import levels
from tests.conftest import x64

ALL = {**corruptions.CORRUPTIONS, **corruptions.EXTRAS}
FIXED = ["defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "gaussian_blur", "saturate"]
DRAWN = [name for name in ALL if name not in FIXED and name not in corruptions.ON_HOST]
SEVERITIES = range(1, 6)


@functools.cache
def program(name, severity):
    return jax.jit(functools.partial(ALL[name], severity=severity))


def keys(name, severity, indices=(0, 1, 2, 3), seed=0):
    return corruptions.keys(jnp.asarray(indices, jnp.int32), corruption=name, severity=severity, seed=seed)


def corrupted(name, severity, images, indices=(0, 1, 2, 3)):
    """As the corruption is used: jitted, unless it runs on the host."""
    if name in corruptions.ON_HOST:
        return ALL[name](images, keys(name, severity, indices), severity=severity)
    return np.asarray(program(name, severity)(images, keys(name, severity, indices)))


def colour(seed=0):
    """Images of full range, neither square nor even, [4, 12, 9, 3]."""
    return np.random.default_rng(seed).uniform(0, 1, (4, 12, 9, 3)).astype(np.float32)


def gray():
    return np.random.default_rng(1).uniform(0, 1, (4, 8, 8, 1)).astype(np.float32)


def constant(value):
    return np.full_like(colour(), value)


def per_image(function, images, *draws):
    """The oracle's results, clipped as every corruption is."""
    return np.clip(np.stack([function(*arguments) for arguments in zip(images, *draws, strict=True)]), 0, 1)


def drawn(rng, draw, *shape):
    """What a corruption draws for each image: flat, in float64 for the oracle."""
    flat = jax.jit(jax.vmap(lambda key: draw(key, (math.prod(shape),))))(rng)
    return np.asarray(flat, np.float64).reshape(-1, *shape)


def angles(rng, low, high):
    return np.asarray(jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(rng), np.float64)


def halves(rng):
    return jnp.moveaxis(jax.vmap(jax.random.split)(rng), 1, 0)


# Every corruption.


@pytest.mark.parametrize(
    ("name", "severity"),
    [(name, s) for name in ALL for s in ((5,) if name in DRAWN else SEVERITIES)],
)
def test_colour_images_of_any_shape_stay_images(name, severity):
    images = colour()
    result = corrupted(name, severity, images)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    assert np.abs(result - images).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DRAWN))
def test_draws_do_not_depend_on_whether_float64_is_on(name):
    images = colour()
    with x64():
        wide = corrupted(name, 3, images)
    np.testing.assert_allclose(wide, corrupted(name, 3, images), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_gray_images_stay_images(name):
    images = gray()
    result = corrupted(name, 1 if name in DRAWN else 5, images)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    assert (np.abs(result - images).max() > 1e-3) == (name != "saturate")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [*FIXED, *DRAWN])
def test_the_dtype_is_kept(name, dtype):
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), dtype)
    result = jax.eval_shape(functools.partial(ALL[name], severity=3), images, keys(name, 3, (0, 1)))
    assert result.dtype == dtype


def test_half_precision_is_computed_in_single():
    images = jnp.asarray(colour(), jnp.bfloat16)
    exact = corrupted("gaussian_blur", 5, np.asarray(images.astype(jnp.float32)))
    np.testing.assert_array_equal(corrupted("gaussian_blur", 5, images), np.asarray(jnp.asarray(exact, jnp.bfloat16)))


def test_the_set_is_cifar_10_c_s_without_frost():
    assert len(corruptions.CORRUPTIONS) == 14
    assert "frost" not in ALL
    assert not set(corruptions.CORRUPTIONS) & set(corruptions.EXTRAS)
    assert all(function.__name__ == name for name, function in ALL.items())
    assert set(corruptions.ON_HOST) < set(ALL)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "gaussian_noise": [(0.04,), (0.06,), (0.08,), (0.09,), (0.10,)],
        "shot_noise": [(500,), (250,), (100,), (75,), (50,)],
        "impulse_noise": [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)],
        "glass_blur": [(0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)],
        "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
        "snow": [
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
        "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
        "elastic_transform": [
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ],
        "speckle_noise": [(0.06,), (0.1,), (0.12,), (0.16,), (0.2,)],
    }.items(),
)
def test_parameters_of_draws_are_cifar_10_c_s(name, expected):
    """Those of the others are seen in their images, at every severity."""
    assert list(levels.LEVELS[name]) == expected


# Keys, and what depends on them.


def test_keys_differ_by_seed_corruption_severity_and_index():
    chains = [("fog", 1, 0), ("fog", 2, 0), ("fog", 1, 1), ("snow", 1, 0)]
    data = np.concatenate([jax.random.key_data(keys(c, s, range(8), seed)) for c, s, seed in chains])
    assert len(np.unique(data, axis=0)) == 32


def test_keys_are_those_of_every_session_and_default_generator():
    """A golden number: other keys would be another data set under the same name."""
    expected = jax.random.key_data(keys("fog", 3, (7,))).tolist()
    with jax.default_prng_impl("rbg"):
        assert jax.random.key_data(keys("fog", 3, (7,))).tolist() == expected
    assert expected == [[509147920, 2674037517]]


@pytest.mark.parametrize("name", DRAWN)
def test_an_image_does_not_depend_on_its_neighbours(name):
    images, other = colour(), colour(seed=9)
    batch = corrupted(name, 5, images, (0, 1, 2, 3))
    elsewhere = corrupted(name, 5, np.stack([other[0], images[3], images[1], other[1]]), (8, 3, 1, 9))
    np.testing.assert_array_equal(elsewhere[[2, 1]], batch[[1, 3]])


@pytest.mark.parametrize("name", ["gaussian_noise", "motion_blur"])
def test_an_image_does_not_depend_on_the_batch_size(name):
    images = colour()
    alone = corrupted(name, 5, images[2:3], (2,))
    np.testing.assert_allclose(alone[0], corrupted(name, 5, images)[2], atol=1e-6)


@pytest.mark.parametrize("name", DRAWN)
def test_equal_images_of_other_indices_are_corrupted_otherwise(name):
    result = corrupted(name, 5, np.stack([colour()[0]] * 4))
    assert np.abs(result[0] - result[1]).max() > 1e-2


@pytest.mark.parametrize("name", FIXED)
def test_what_draws_nothing_ignores_the_keys(name):
    images = colour()
    np.testing.assert_array_equal(corrupted(name, 5, images), corrupted(name, 5, images, (4, 5, 6, 7)))


# Noise, by its law.


def within(values, mean, variance):
    """Whether moments of draws of about normal tails lie within 4 standard errors."""
    n = values.size
    assert abs(values.mean() - mean) < 4 * math.sqrt(variance / n)
    assert abs(values.var() - variance) < 4 * variance * math.sqrt(2 / n)


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_its_deviation(severity, sigma):
    within(corrupted("gaussian_noise", severity, constant(0.5)), 0.5, sigma**2)


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.06), (5, 0.2)])
@pytest.mark.parametrize("value", [0.25, 0.5])
def test_speckle_noise_grows_with_the_image(severity, sigma, value):
    within(corrupted("speckle_noise", severity, constant(value)), value, (sigma * value) ** 2)


@pytest.mark.parametrize(("severity", "rate"), [(1, 500), (5, 50)])
@pytest.mark.parametrize("value", [0.25, 0.5])
def test_shot_noise_counts_photons(severity, rate, value):
    result = corrupted("shot_noise", severity, constant(value))
    within(result, value, value / rate)
    np.testing.assert_allclose(result * rate, np.round(result * rate), atol=1e-4)


@pytest.mark.parametrize(("severity", "amount"), [(1, 0.01), (5, 0.07)])
def test_impulse_noise_is_half_salt_half_pepper_in_each_channel_by_itself(severity, amount):
    result = corrupted("impulse_noise", severity, np.full((32, 12, 9, 3), 0.5, np.float32), range(32))
    error = 4 * math.sqrt(amount / 2 / result.size)
    assert abs((result == 0).mean() - amount / 2) < error
    assert abs((result == 1).mean() - amount / 2) < error
    assert ((result == 0) | (result == 0.5) | (result == 1)).all()
    assert (result != 0.5).all(-1).mean() < amount / 5


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise", "shot_noise", "impulse_noise"])
def test_noise_grows_with_severity(name):
    images = constant(0.5)
    assert (
        np.square(corrupted(name, 5, images) - images).mean()
        > 2 * np.square(corrupted(name, 1, images) - images).mean()
    )


@pytest.mark.parametrize("name", ["brightness", "contrast", "gaussian_blur", "zoom_blur"])
def test_change_grows_with_every_severity(name):
    images = colour()
    changes = [np.square(corrupted(name, severity, images) - images).mean() for severity in SEVERITIES]
    assert np.all(np.diff(changes) > 0)


# Blurs.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipy_s(severity):
    sigma = [0.4, 0.6, 0.7, 0.8, 1][severity - 1]
    expected = ndimage.gaussian_filter(colour(), sigma, axes=(1, 2), mode="nearest", truncate=4)
    np.testing.assert_allclose(corrupted("gaussian_blur", severity, colour()), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_correlates_with_a_smoothed_disk(severity):
    radius, sigma = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)][severity - 1]
    rows, columns = np.mgrid[-8:9, -8:9]
    disk = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    kernel = ndimage.gaussian_filter(disk / disk.sum(), sigma, radius=1)
    expected = ndimage.correlate(colour().astype(np.float64), kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(corrupted("defocus_blur", severity, colour()), expected, atol=1e-6)


def zoomed(image, factor):
    """The middle of the image, enlarged by scipy and trimmed to the image's size."""
    for axis, length in enumerate(image.shape[:2]):
        crop = math.ceil(length / factor)
        first = (length - crop) // 2
        image = np.take(image, range(first, first + crop), axis)
        image = ndimage.zoom(image, [factor if a == axis else 1 for a in range(3)], order=1)
        first = (image.shape[axis] - length) // 2
        image = np.take(image, range(first, first + length), axis)
    return image


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_averages_scipy_s_zooms(severity):
    factors = np.arange(1, [1.06, 1.11, 1.16, 1.21, 1.26][severity - 1], 0.01)
    assert len(factors) == [7, 12, 16, 21, 26][severity - 1]  # rounding adds the end twice
    expected = per_image(lambda x: (x + sum(zoomed(x, z) for z in factors)) / (len(factors) + 1), colour())
    np.testing.assert_allclose(corrupted("zoom_blur", severity, colour()), expected, atol=1e-6)


def moved(image, angle, radius, sigma):
    """A loop over the taps and pixels of ImageMagick's motion blur."""
    height, width = image.shape[:2]
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    result = np.zeros_like(image, np.float64)
    for i, weight in enumerate(weights):
        down, right = math.ceil(i * math.sin(angle) - 0.5), math.ceil(i * math.cos(angle) - 0.5)
        for h in range(height):
            for w in range(width):
                source = min(max(h + down, 0), height - 1), min(max(w + right, 0), width - 1)
                result[h, w] += weight / sum(weights) * image[source]
    return result


@pytest.mark.parametrize(("severity", "radius", "sigma"), [(1, 6, 1), (5, 9, 2.5)])
def test_motion_blur_is_a_loop_over_taps_and_pixels(severity, radius, sigma):
    rng = keys("motion_blur", severity)
    expected = per_image(
        lambda image, angle: moved(image, angle, radius, sigma), colour(), angles(rng, -math.pi / 4, math.pi / 4)
    )
    np.testing.assert_allclose(corrupted("motion_blur", severity, colour()), expected, atol=1e-6)


def test_motion_blur_spreads_a_point_over_angles_uniform_in_90_degrees():
    """Angles are those of the centre of mass, of taps rounded to pixels: hence the tolerances."""
    n, place = 256, 12
    images = np.zeros((n, 2 * place + 1, place + 2, 1), np.float32)
    images[:, place, place] = 1
    result = corrupted("motion_blur", 3, images, range(n))[..., 0]
    np.testing.assert_allclose(result.sum((1, 2)), 1, atol=1e-5)
    up, left = place - np.arange(2 * place + 1), place - np.arange(place + 2)
    angle = np.degrees(np.arctan2(result.sum(2) @ up, result.sum(1) @ left))
    assert np.abs(angle).max() < 46
    assert abs(angle.mean()) < 4 * 26 / math.sqrt(n)
    assert 24 < angle.std() < 28  # 90 / sqrt(12) = 26


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "zoom_blur", "motion_blur", "glass_blur", "pixelate"]
)
def test_blurs_and_resampling_keep_a_constant_image(name):
    images = constant(0.3)
    np.testing.assert_allclose(corrupted(name, 5, images), images, atol=1e-6)


def frosted(image, up, left, sigma):
    """The released double loop, whose swap of two views copies one into the other."""
    image = ndimage.gaussian_filter(image, sigma, axes=(0, 1), mode="nearest")
    for up_now, left_now in zip(up, left, strict=True):
        for h in range(image.shape[0] - 1, 1, -1):
            for w in range(image.shape[1] - 1, 1, -1):
                there = h - up_now[h, w], w - left_now[h, w]
                image[h, w], image[there] = image[there], image[h, w]
    return ndimage.gaussian_filter(image, sigma, axes=(0, 1), mode="nearest")


@pytest.mark.parametrize(("severity", "sigma", "passes"), [(1, 0.05, 1), (5, 0.4, 2)])
def test_glass_blur_is_the_released_loop_given_the_same_shifts(severity, sigma, passes):
    images = colour()
    shifts = (drawn(keys("glass_blur", severity), jax.random.uniform, passes, 2, 12, 9) < 0.5).astype(int)
    expected = per_image(lambda image, s: frosted(image, s[:, 0], s[:, 1], sigma), images, shifts)
    np.testing.assert_allclose(corrupted("glass_blur", severity, images), expected, atol=1e-6)


def test_glass_blur_moves_pixels_by_one_at_most_with_equal_chances():
    """Severity 1 does not blur, so an image that holds places shows where each pixel came from."""
    places = np.stack([*np.mgrid[:12, :9], np.zeros((12, 9))], -1).astype(np.float32) / 16
    steps = 16 * (places - corrupted("glass_blur", 1, np.stack([places] * 4)))[..., :2]
    assert np.abs(steps[:, :2]).max() == 0
    assert np.abs(steps[:, :, :2]).max() == 0
    steps = steps[:, 2:, 2:].reshape(-1, 2)
    for up, left in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        share = (steps == np.array([[up, left]])).all(-1).mean()
        assert abs(share - 1 / 4) < 4 * math.sqrt(3 / 16 / len(steps))


# Weather.


@pytest.mark.parametrize(
    ("images", "severity", "parameters"),
    [(gray(), 1, (0.1, 0.2, 1, 0.6, 8, 3, 0.95)), (colour(), 5, (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8))],
    ids=["gray", "colour"],
)
def test_snow_is_the_released_recipe_given_the_same_flakes(images, severity, parameters):
    mean, deviation, factor, threshold, radius, sigma, share = parameters
    flakes_rng, angle_rng = halves(keys("snow", severity))

    def snowed(image, flakes, angle):
        flakes = zoomed(mean + deviation * flakes, factor)
        flakes = moved(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1), angle, radius, sigma)
        luma = image @ [0.299, 0.587, 0.114] if image.shape[-1] == 3 else image[..., 0]
        whitened = share * image + (1 - share) * np.maximum(image, 1.5 * luma[..., None] + 0.5)
        return whitened + flakes + flakes[::-1, ::-1]

    flakes = drawn(flakes_rng, jax.random.normal, *images.shape[1:3], 1)
    expected = per_image(snowed, images, flakes, angles(angle_rng, -3 * math.pi / 4, -math.pi / 4))
    np.testing.assert_allclose(corrupted("snow", severity, images), expected, atol=1e-5)


def plasma(noise, decay):
    """The diamond-square algorithm, a loop over the points of a torus of 32 x 32."""
    points, step, scale = np.zeros((32, 32)), 32, 1.0
    draws = iter(noise)

    def settle(places, around):
        for h, w in places:
            mean = np.mean([points[(h + a) % 32, (w + b) % 32] for a, b in around])
            points[h, w] = mean + scale * next(draws)

    while step > 1:
        half = step // 2
        corners = [(h, w) for h in range(0, 32, step) for w in range(0, 32, step)]
        beside = [(-half, 0), (half, 0), (0, -half), (0, half)]
        settle([(h + half, w + half) for h, w in corners], [(a, b) for a in (-half, half) for b in (-half, half)])
        settle([(h, w + half) for h, w in corners], beside)
        settle([(h + half, w) for h, w in corners], beside)
        step, scale = half, scale / decay**2
    return (points - points.min()) / (points.max() - points.min())


@pytest.mark.parametrize(("severity", "strength", "decay"), [(1, 0.2, 3), (5, 1.5, 1.75)])
def test_fog_is_a_plasma_fractal_given_the_same_noise(severity, strength, decay):
    images = colour() if severity == 5 else gray()
    noise = 2 * drawn(keys("fog", severity), jax.random.uniform, 1023) - 1

    def fogged(image, noise):
        haze = plasma(noise, decay)[: image.shape[0], : image.shape[1], None]
        return (image + strength * haze) * image.max() / (image.max() + strength)

    np.testing.assert_allclose(corrupted("fog", severity, images), per_image(fogged, images, noise), atol=1e-5)


def test_fog_keeps_the_largest_value_and_lowers_the_least():
    """On a constant image v of the fractal's size: the haze 0 gives v v / (v + 1.5), and the haze 1 gives v."""
    result = corrupted("fog", 5, np.full((1, 32, 32, 1), 0.5, np.float32), (0,))
    assert result.max() == pytest.approx(0.5, abs=1e-6)
    assert result.min() == pytest.approx(0.5 * 0.5 / 2, abs=1e-6)


def special():
    """Colour images with black, gray and white pixels, of which HSV knows no hue."""
    images = colour()
    images[:, 0, :4] = np.array([0, 0.2, 0.7, 1])[:, None]
    return images


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_adds_to_the_value_of_hsv(severity):
    def brightened(image):
        hsv = colors.rgb_to_hsv(image)
        hsv[..., 2] = np.minimum(hsv[..., 2] + [0.05, 0.1, 0.15, 0.2, 0.3][severity - 1], 1)
        return colors.hsv_to_rgb(hsv)

    expected = per_image(brightened, special())
    np.testing.assert_allclose(corrupted("brightness", severity, special()), expected, atol=1e-6)


def test_brightness_adds_to_gray_images():
    np.testing.assert_allclose(corrupted("brightness", 1, gray()), np.minimum(gray() + 0.05, 1), atol=1e-6)


# Digital.


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_maps_the_saturation_of_hsv(severity):
    factor, summand = [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)][severity - 1]

    def saturated(image):
        hsv = colors.rgb_to_hsv(image)
        hsv[..., 1] = np.clip(factor * hsv[..., 1] + summand, 0, 1)
        return colors.hsv_to_rgb(hsv)

    expected = per_image(saturated, special())
    np.testing.assert_allclose(corrupted("saturate", severity, special()), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_shrinks_about_the_mean_of_each_channel(severity):
    factor = [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1]
    images = colour() * np.array([[[0.3, 0.6, 1.0]]], np.float32)
    expected = per_image(lambda x: factor * x + (1 - factor) * x.mean((0, 1), keepdims=True), images)
    np.testing.assert_allclose(corrupted("contrast", severity, images), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_is_pillow_s_box_filter_there_and_back(severity):
    share = [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1]

    def coarsened(image):
        small = int(share * image.shape[1]), int(share * image.shape[0])
        channels = [Image.fromarray(channel, "F") for channel in np.moveaxis(image, -1, 0).copy()]
        return np.stack(
            [c.resize(small, Image.Resampling.BOX).resize(c.size, Image.Resampling.BOX) for c in channels], -1
        )

    expected = per_image(coarsened, colour())
    np.testing.assert_allclose(corrupted("pixelate", severity, colour()), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("images", [colour(), gray()], ids=["colour", "gray"])
def test_jpeg_compression_is_pillow_s(severity, images):
    def compressed(image):
        file = io.BytesIO()
        pixels = np.rint(255 * image).astype(np.uint8)
        Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=[80, 65, 58, 50, 40][severity - 1])
        return np.asarray(Image.open(file)).reshape(image.shape) / 255

    expected = per_image(compressed, images)
    np.testing.assert_allclose(corrupted("jpeg_compression", severity, images), expected, atol=1e-6)


def deformed(image, shifts, field, alpha, sigma, affine):
    """The affine map solved for by numpy; smoothing and interpolation by scipy."""
    height, width = image.shape[:2]
    side, half = min(height, width), min(height, width) // 3
    corners = np.array([[1, 1], [-1, 1], [-1, -1]]) * half + np.array([[height // 2, width // 2]])
    moved_corners = np.column_stack([corners + affine * side * shifts, np.ones(3)])
    grid = np.mgrid[:height, :width]
    pixels = np.column_stack([grid[0].ravel(), grid[1].ravel(), np.ones(height * width)])
    sources = (pixels @ np.linalg.solve(moved_corners, corners)).T.reshape(2, height, width)
    displaced = grid.astype(np.float64)
    if alpha > 0:
        smooth = ndimage.gaussian_filter(field, sigma * side, axes=(0, 1), mode="reflect", truncate=3)
        displaced += alpha * side * np.moveaxis(smooth, -1, 0)
    for places, mode in ((sources, "mirror"), (displaced, "reflect")):
        image = np.stack(
            [ndimage.map_coordinates(c, places, order=1, mode=mode) for c in np.moveaxis(image, -1, 0)], -1
        )
    return image


@pytest.mark.parametrize(("severity", "shares"), [(1, (0, 0, 0.08)), (2, (0.05, 0.2, 0.07))])
def test_elastic_transform_is_scipy_s_given_the_same_draws(severity, shares):
    images = colour() if severity == 2 else gray()
    shifts_rng, field_rng = halves(keys("elastic_transform", severity))
    shifts = 2 * drawn(shifts_rng, jax.random.uniform, 3, 2) - 1
    fields = 2 * drawn(field_rng, jax.random.uniform, *images.shape[1:3], 2) - 1
    expected = per_image(lambda *arguments: deformed(*arguments, *shares), images, shifts, fields)
    np.testing.assert_allclose(corrupted("elastic_transform", severity, images), expected, atol=1e-5)


# Errors. The annotations, which refuse some of this first under test, are left out.


def given(name, images, severity=1):
    """The corruption of an array of the kind that it takes."""
    images = images if name in corruptions.ON_HOST else jnp.asarray(images)
    return inspect.unwrap(ALL[name])(images, keys(name, 1), severity=severity)


@pytest.mark.parametrize("name", ALL)
def test_whole_numbers_are_refused_with_the_remedy(name):
    with pytest.raises(TypeError, match=r"dtype uint8: pass floats in .* uint8 images / 255"):
        given(name, np.ones((4, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("severity", [0, 6])
@pytest.mark.parametrize("name", ALL)
def test_other_severities_are_refused(name, severity):
    with pytest.raises(ValueError, match=f"severity must be 1, 2, 3, 4 or 5, got {severity}"):
        given(name, colour(), severity)


@pytest.mark.parametrize("shape", [(4, 8, 8, 2), (8, 8, 3)])
@pytest.mark.parametrize("name", ALL)
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"images have shape .*: pass \[n, h, w, 1\] or \[n, h, w, 3\]"):
        given(name, np.ones(shape, np.float32))
