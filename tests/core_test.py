import functools
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import jaxmix
from jaxmix import core, masks, pairings, ratios, weighing
from tests import conftest
from tests.conftest import PAIRINGS, brightness, images, one_hot, seen_by, taking, x64

KEY = jax.random.key(11)


def stripes(space, ratio, rng):
    """A user's own mask: whole columns of the image go to the partner."""
    column = jax.random.uniform(rng, (ratio.shape[0], 1, space[1]))
    return jnp.broadcast_to((column < ratio[:, None, None]).astype(jnp.float32), (ratio.shape[0], *space))


MASKS = conftest.MASKS | {"stripes": stripes}


def mixed_by_numpy(batch, labels, partner, weight):
    """The definition, one number at a time, in float64."""
    batch, labels, weight = (np.asarray(a, np.float64) for a in (batch, labels, weight))
    mixed, mixed_labels = np.empty_like(batch), np.empty_like(labels)
    n, height, width, _ = batch.shape
    for i in range(n):
        share = 0.0
        for h, w in itertools.product(range(height), range(width)):
            own = weight[i] if weight.ndim == 1 else weight[i, h, w]
            mixed[i, h, w] = own * batch[i, h, w] + (1 - own) * batch[partner[i], h, w]
            share += own / (height * width)
        mixed_labels[i] = share * labels[i] + (1 - share) * labels[partner[i]]
    return mixed, mixed_labels


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("pairing", "shared"), [*((pairing, False) for pairing in PAIRINGS), ("permutation", True)], ids=str
)
def test_any_pairing_with_any_mask_is_the_definition_and_mix_is_apply_after_draw_bit_for_bit(pairing, mask, shared):
    parts = {"pairing": PAIRINGS[pairing], "ratio": ratios.beta, "mask": MASKS[mask], "shared": shared}
    parts |= seen_by(MASKS[mask])
    batch, labels = images(9), one_hot(9) + 2 * one_hot(9)[jnp.arange(9) // 3]  # of three classes, and all unlike
    drawn = jaxmix.draw(batch, KEY, labels=labels, **parts)
    expected = mixed_by_numpy(batch, labels, np.asarray(drawn.partner), drawn.weight)
    replayed = jaxmix.apply(drawn, batch, labels)
    np.testing.assert_allclose(replayed[0], expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(replayed[1], expected[1], atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, jaxmix.mix(batch, labels, KEY, **parts), replayed)
    assert not np.allclose(expected[1], labels)


@pytest.mark.parametrize("length", [255, 256, 300])
def test_the_ratio_of_booleans_counts_axes_of_any_length(length):
    weight = np.random.default_rng(0).random((2, 3, length)) < np.array([[[0.3]], [[2.0]]])
    ratio = jax.jit(lambda weight: core.Mix(jnp.arange(2), weight).ratio)(jnp.asarray(weight))
    np.testing.assert_allclose(ratio, weight.mean(axis=(1, 2)), rtol=1e-6)


def test_mix_with_fixed_draws_is_the_definition():
    """No draw at all: each part returns what the oracle is given."""
    rng = np.random.default_rng(0)
    batch, labels = images(4), rng.uniform(size=(4, 2)).astype(np.float32)
    partner, share = np.array([2, 0, 0, 3], np.int32), rng.uniform(size=4).astype(np.float32)
    weight = rng.uniform(size=(4, 6, 5)).astype(np.float32)
    mixed, mixed_labels = jaxmix.mix(
        batch,
        labels,
        KEY,
        pairing=lambda batch, rng: jnp.asarray(partner),
        ratio=lambda n, rng: jnp.asarray(share),
        mask=lambda space, ratio, rng: weight * ratio[:, None, None],
    )
    expected = mixed_by_numpy(batch, labels, partner, weight * share[:, None, None])
    np.testing.assert_allclose(mixed, expected[0], rtol=1e-5)
    np.testing.assert_allclose(mixed_labels, expected[1], rtol=1e-5)


@pytest.mark.parametrize("mask", conftest.MASKS)
@pytest.mark.parametrize("space", [(7,), (1, 9), (4, 3, 5)], ids=["sequence", "flat_image", "video"])
def test_labels_get_the_share_that_is_seen_in_any_rank_of_space(mask, space):
    n = 8
    batch = jnp.broadcast_to(jnp.eye(n).reshape(n, *(1,) * len(space), n), (n, *space, n))
    parts = {"pairing": pairings.roll, "ratio": ratios.beta, "mask": MASKS[mask]} | seen_by(MASKS[mask])
    mixed, labels = jax.jit(functools.partial(jaxmix.mix, **parts))(batch, one_hot(n), KEY)
    np.testing.assert_allclose(labels, np.asarray(mixed).mean(tuple(range(1, 1 + len(space)))), atol=1e-6)
    assert np.ptp(np.asarray(labels)) > 0.1


def test_methods_are_compositions_of_the_named_parts():
    parts = {
        "mixup": (pairings.permutation, masks.uniform, {}),
        "cutmix": (pairings.permutation, masks.box, {}),
        "hmix": (pairings.permutation, functools.partial(masks.framed_box, area_ratio=0.2), {"area_ratio": 0.2}),
        "gmix": (pairings.permutation, masks.gaussian, {}),
        "fmix": (pairings.permutation, functools.partial(masks.fourier, decay=2.0), {"decay": 2.0}),
        "gridmix": (pairings.permutation, functools.partial(masks.grid, cells=3), {"cells": 3}),
        "smoothmix": (pairings.permutation, masks.smooth_spot, {}),
        "kmixup": (
            functools.partial(pairings.transport, k=4, solver="exact"),
            masks.uniform,
            {"k": 4, "solver": "exact"},
        ),
        "saliencymix": (pairings.permutation, masks.salient_box, {"guide": brightness}),
    }
    assert {*parts} == {*taking("alpha", "shared")}
    for name, (pairing, mask, options) in parts.items():
        for alpha in (1.0, 0.3):
            ratio = functools.partial(ratios.beta, alpha=alpha)
            chosen = {"pairing": pairing, "ratio": ratio, "mask": mask} | seen_by(mask)
            composed = jaxmix.mix(images(), one_hot(), KEY, **chosen)
            named = getattr(jaxmix, name)(images(), one_hot(), KEY, alpha=alpha, **options)
            jax.tree.map(np.testing.assert_array_equal, named, composed)


def test_draws_are_independent_of_one_another():
    """Who, how much and where come from different keys."""
    keys = {}

    def recorded(name, value):
        def part(*args):
            keys[name] = tuple(np.asarray(jax.random.key_data(args[-1])))
            return value(*args)

        return part

    jaxmix.draw(
        images(),
        KEY,
        pairing=recorded("pairing", pairings.permutation),
        ratio=recorded("ratio", ratios.beta),
        mask=recorded("mask", masks.box),
    )
    assert len({*keys.values(), tuple(np.asarray(jax.random.key_data(KEY)))}) == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
def test_weight_one_is_the_identity_and_weight_zero_the_partner(dtype):
    batch, labels, partner = images(dtype=dtype), one_hot(), jnp.roll(jnp.arange(8), 3)
    for shape in ((8,), (8, 6, 5)):
        kept = jaxmix.apply(jaxmix.Mix(partner, jnp.ones(shape)), batch, labels)
        given = jaxmix.apply(jaxmix.Mix(partner, jnp.zeros(shape)), batch, labels)
        jax.tree.map(np.testing.assert_array_equal, kept, (batch, labels))
        jax.tree.map(np.testing.assert_array_equal, given, (batch[partner], labels[partner]))


def test_the_mean_that_tpus_take_is_the_same_and_as_exact():
    """One with no second map of weights: exact where one of two has all, and not finite where the partner is not."""
    own, other = jax.random.normal(KEY, (2, 8, 6, 5, 3))
    weight = jax.random.uniform(KEY, (8, 6, 5, 1)).at[0].set(1).at[1].set(0)
    mean = weighing.average_tpu(weight, own, other)
    np.testing.assert_array_equal(mean[:2], jnp.stack([own[0], other[1]]))
    wide = np.asarray(weight, np.float64)
    np.testing.assert_allclose(mean, wide * own + (1 - wide) * other, atol=4e-7)
    arrays = weight, own, other
    for one, same in zip(*(jax.vjp(f, *arrays)[1](own) for f in (weighing.average, weighing.average_tpu)), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-5, atol=1e-5)
    assert not np.isfinite(weighing.average_tpu(weight, own, jnp.full_like(own, jnp.inf))).any()


def test_a_draw_applies_to_anything_aligned_with_the_batch():
    batch = images()
    mix = jaxmix.draw(batch, KEY, pairing=pairings.roll, ratio=ratios.beta, mask=masks.box)
    depth = jaxmix.apply(mix, batch[..., 0])[0]
    np.testing.assert_array_equal(depth, jaxmix.apply(mix, batch)[0][..., 0])
    with pytest.raises(
        ValueError, match=r"batch has shape \(8, 3\), and does not start with \(8, 6, 5\) as the weights do"
    ):
        jaxmix.apply(mix, jnp.ones((8, 3)))


def test_a_draw_of_weights_for_what_cannot_be_blended_is_refused():
    parts = {"pairing": pairings.roll, "ratio": ratios.beta}
    batch = {"image": images(), "map": jnp.ones((8, 6, 5), jnp.int32)}
    assert jaxmix.draw(batch, KEY, mask=masks.box, **parts).weight.shape == (8, 6, 5)
    with pytest.raises(TypeError, match=r"batch\['map'\] has dtype int32, whose values cannot be blended"):
        jaxmix.draw(batch, KEY, mask=masks.uniform, **parts)


def test_a_sample_s_own_booleans_are_one_for_the_whole_sample():
    mix = jaxmix.draw(
        images(), KEY, pairing=pairings.roll, ratio=ratios.beta, mask=lambda space, ratio, rng: ratio > 0.5
    )
    mixed, labels = jaxmix.apply(mix, jnp.arange(8), one_hot())
    assert mix.weight.dtype == jnp.bool_
    assert mix.ratio.dtype == jnp.float32
    np.testing.assert_array_equal(mixed, np.where(mix.weight, np.arange(8), np.roll(np.arange(8), -1)))
    np.testing.assert_array_equal(labels, one_hot()[mixed])
    assert 0 < mix.weight.sum() < 8


def test_a_permuted_batch_of_partners_may_repeat():
    """A user's pairing with replacement mixes, and differentiates, as the definition says."""
    partner = jnp.array([1, 1, 1])
    mix = jaxmix.Mix(partner, jnp.array([0.5, 0.25, 0.0]))
    gradient = jax.grad(lambda x: jaxmix.apply(mix, x)[0].sum())(jnp.ones((3, 2)))
    np.testing.assert_allclose(gradient, [[0.5, 0.5], [2.5, 2.5], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("part", "returns", "message"),
    [
        ("pairing", jnp.zeros((8, 1), int), r"the pairing returned shape \(8, 1\), where \(8,\) was expected"),
        ("ratio", jnp.float32(0.5), r"the ratio returned shape \(\), where \(8,\) was expected"),
        ("mask", jnp.ones((8, 5, 6)), r"the mask returned shape \(8, 5, 6\), where \(8,\) or \(8, 6, 5\)"),
    ],
)
def test_parts_of_the_wrong_shape_are_named(part, returns, message):
    parts = {"pairing": pairings.roll, "ratio": ratios.beta, "mask": masks.uniform, part: lambda *args: returns}
    with pytest.raises(ValueError, match=message):
        jaxmix.draw(images(), KEY, **parts)


def brighter(space, ratio, rng, *, guide=None):
    """A guided mask: the sample stays where it is the brighter of the two."""
    return guide.own >= guide.partner


@pytest.mark.parametrize("shared", [False, True])
def test_a_guided_mask_sees_the_sample_and_its_partner_and_a_ratio_for_each(shared):
    seen = {}

    def mask(space, ratio, rng, *, guide=None):
        seen.update(ratio=ratio, guide=guide)
        return brighter(space, ratio, rng, guide=guide)

    batch = images()
    parts = {"pairing": pairings.permutation, "ratio": ratios.beta, "shared": shared}
    mix = jaxmix.draw(batch, KEY, mask=mask, guide=brightness, **parts)
    own = np.asarray(batch).mean(3)
    np.testing.assert_allclose(seen["guide"].own, own, rtol=1e-6)
    np.testing.assert_array_equal(seen["guide"].partner, seen["guide"].own[np.asarray(mix.partner)])
    np.testing.assert_array_equal(mix.weight, seen["guide"].own >= seen["guide"].partner)
    assert seen["ratio"].shape == (8,)
    assert (np.ptp(seen["ratio"]) == 0) == shared


def test_no_gradient_flows_through_a_guide():
    parts = {"pairing": pairings.roll, "ratio": ratios.beta, "guide": lambda batch: brightness(batch**2)}

    def soft(space, ratio, rng, *, guide=None):
        return jax.nn.sigmoid(guide.own - guide.partner)

    mix = jaxmix.draw(images() / 255, KEY, mask=soft, **parts)
    through = jax.grad(lambda x: jnp.sum(jaxmix.mix(x, None, KEY, mask=soft, **parts)[0] ** 2))(images() / 255)
    fixed = jax.grad(lambda x: jnp.sum(jaxmix.apply(mix, x)[0] ** 2))(images() / 255)
    np.testing.assert_allclose(through, fixed, rtol=1e-5)

    def of_parameters(w):
        guided = parts | {"guide": lambda batch: w * brightness(batch)}
        return jnp.sum(jaxmix.mix(images() / 255, None, KEY, mask=soft, **guided)[0] ** 2)

    assert jax.grad(of_parameters)(1.0) == 0


@pytest.mark.parametrize(
    ("mask", "guide", "message"),
    [
        (masks.box, brightness, "the mask box looks at no guide: leave guide=, or take a guided mask"),
        (brighter, lambda batch: batch, r"the guide returned shape \(8, 6, 5, 8\), where \[8, \*places\] was expected"),
        (brighter, lambda batch: brightness(batch)[:4], r"the guide returned shape \(4, 6, 5\)"),
        (brighter, lambda batch: brightness(batch)[:, :0], r"the guide returned shape \(8, 0, 5\)"),
    ],
)
def test_guides_that_do_not_fit_are_refused(mask, guide, message):
    with pytest.raises(ValueError, match=message):
        jaxmix.draw(images(), KEY, pairing=pairings.roll, ratio=ratios.beta, mask=mask, guide=guide)


@pytest.mark.parametrize(
    ("value", "found"), [(None, "NoneType"), (jnp.ones((8, 6, 5), jnp.complex64), "complex64")], ids=["none", "complex"]
)
def test_what_a_guide_returns_that_is_no_array_of_reals_is_refused(value, found):
    def network(batch):
        return value

    with pytest.raises(TypeError, match=f"the guide network returned {found}, where an array of reals was expected"):
        jaxmix.draw(images(), KEY, pairing=pairings.roll, ratio=ratios.beta, mask=brighter, guide=network)


def test_a_second_guide_is_refused():
    own = jaxmix.types.Guide(*[brightness(images())] * 2)
    mask, parts = functools.partial(masks.salient_box, guide=own), {"pairing": pairings.roll, "ratio": ratios.beta}
    jaxmix.draw(images(), KEY, mask=mask, **parts)
    with pytest.raises(ValueError, match="the mask salient_box is bound to a guide already: leave one of the two"):
        jaxmix.draw(images(), KEY, mask=mask, guide=brightness, **parts)


def test_a_pairing_that_looks_at_labels_is_given_them_unless_it_has_its_own():
    def lowest(batch, rng, *, labels=None):
        return jnp.full(8, jnp.argmin(labels), jnp.int32)

    parts = {"ratio": ratios.beta, "mask": masks.uniform}
    labels = -jnp.arange(8.0)
    drawn = jaxmix.draw(images(), KEY, pairing=lowest, labels=labels, **parts)
    np.testing.assert_array_equal(drawn.partner, 7)
    bound = functools.partial(lowest, labels=jnp.arange(8.0))
    np.testing.assert_array_equal(jaxmix.draw(images(), KEY, pairing=bound, labels=labels, **parts).partner, 0)
    mixed = jaxmix.mix(images(), labels, KEY, pairing=lowest, **parts)
    jax.tree.map(np.testing.assert_array_equal, mixed, jaxmix.apply(drawn, images(), labels))


def test_labels_may_have_a_share_of_their_own():
    mix = jaxmix.Mix(jnp.array([1, 0]), jnp.array([[1.0, 0.0], [1.0, 1.0]]), share=jnp.array([0.9, 0.3]))
    batch = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    samples, labels = jaxmix.apply(mix, batch, jnp.eye(2))
    np.testing.assert_array_equal(samples[..., 0], [[1, 4], [3, 4]])
    np.testing.assert_allclose(labels, [[0.9, 0.1], [0.7, 0.3]], rtol=1e-6)
    np.testing.assert_array_equal(mix._replace(share=None).ratio, [0.5, 1])
    with pytest.raises(ValueError, match=r"the mix has a share of shape \(3,\), where \(2,\) was expected"):
        jaxmix.apply(mix._replace(share=jnp.ones(3)), batch)


def test_partners_that_are_no_indices_are_refused():
    with pytest.raises(TypeError, match="the pairing returned bool"):
        jaxmix.draw(images(), KEY, pairing=lambda batch, rng: jnp.arange(8) < 1, ratio=ratios.beta, mask=masks.uniform)
    with pytest.raises(ValueError, match=r"partners \(1,\), but weights \(8,\)"):
        jaxmix.apply(jaxmix.Mix(jnp.array([0]), jnp.full(8, 0.5)), images())


def test_weights_of_no_place_are_refused():
    with pytest.raises(ValueError, match=r"the mix has weights \(8, 0, 5\): mixing needs at least one sample, and one"):
        jaxmix.apply(jaxmix.Mix(jnp.arange(8), jnp.ones((8, 0, 5))), images()[:, :0], one_hot())


def test_a_mask_of_half_precision_is_recorded_in_float32():
    mix = jaxmix.draw(
        images(), KEY, pairing=pairings.roll, ratio=ratios.beta, mask=lambda s, ratio, rng: ratio.astype(jnp.bfloat16)
    )
    assert mix.weight.dtype == mix.ratio.dtype == jnp.float32


def test_draws_of_several_batches_have_their_ratios():
    draw = functools.partial(jaxmix.draw, pairing=pairings.roll, ratio=ratios.beta, mask=masks.box)
    keys = jax.random.split(KEY, 3)
    mixes = jax.vmap(draw)(jnp.stack([images()] * 3), keys)
    np.testing.assert_allclose(mixes.ratio, [draw(images(), key).ratio for key in keys], rtol=1e-6)


def test_combine_is_the_weighted_sum():
    rng = np.random.default_rng(1)
    weights = rng.dirichlet(np.ones(8), size=20).astype(np.float32)
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 1.0), ("uint8", 0.501)):
        x = images(dtype=dtype)
        combined = jaxmix.combine(jnp.asarray(weights), {"x": x})["x"]
        assert combined.dtype == x.dtype
        expected = np.einsum("nm,mhwc->nhwc", weights.astype(np.float64), np.asarray(x, np.float64))
        np.testing.assert_allclose(np.asarray(combined, np.float64), expected, atol=tolerance)


def test_apply_is_the_row_sparse_case_of_combine():
    batch = images()
    mix = jaxmix.draw(batch, KEY, pairing=pairings.permutation, ratio=ratios.beta, mask=masks.uniform)
    weights = jnp.diag(mix.weight).at[jnp.arange(8), mix.partner].add(1 - mix.weight)
    np.testing.assert_allclose(jaxmix.combine(weights, batch), jaxmix.apply(mix, batch)[0], rtol=1e-5, atol=1e-4)


def test_combine_refuses_another_number_of_rows():
    with pytest.raises(ValueError, match=r"x\['a'\] has shape \(3, 2\), but the weights are for 4 rows"):
        jaxmix.combine(jnp.ones((2, 4)), {"a": jnp.ones((3, 2))})
    with pytest.raises(TypeError, match="int32"):
        jaxmix.combine(jnp.ones((2, 3)), jnp.ones((3, 2), jnp.int32))


def test_combine_refuses_weights_that_are_no_matrix(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"weights must be \[n, m\], one row per result, got shape \(1, 2, 4\)"):
        jaxmix.combine(jnp.ones((1, 2, 4)), jnp.ones((4, 2)))


def test_pixels_beyond_their_range_are_clipped():
    pixels = jnp.array([[200, 10]], jnp.uint8)
    assert jaxmix.combine(jnp.array([[3.0], [-1.0]]), pixels).tolist() == [[255, 30], [0, 0]]


def test_float64_stays_float64():
    with x64():
        batch = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6, 5, 3)))
        for method in (jaxmix.mixup, jaxmix.cutmix, functools.partial(jaxmix.kmixup, k=4)):
            mixed, labels = jax.jit(method)(batch, jnp.eye(8), KEY)
            assert mixed.dtype == labels.dtype == jnp.float64
            np.testing.assert_allclose(labels.sum(1), 1, atol=1e-15)


def test_smoothing_commutes_with_mixing():
    labels = one_hot()
    for method in (jaxmix.mixup, jaxmix.cutmix):
        before = method(images(), optax.smooth_labels(labels, 0.1), KEY)[1]
        after = optax.smooth_labels(method(images(), labels, KEY)[1], 0.1)
        np.testing.assert_allclose(before, after, atol=1e-6)
