import functools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import optimize, spatial, stats

import jaxmix
from jaxmix import assignment, pairings
from tests.conftest import PAIRINGS, images, one_hot
from train.timing.fields import random_fields

KEY = jax.random.key(3)
CLASSES = jnp.array([2, 0, 2, 0, 2])
TRANSPORTS = [
    ("sinkhorn", "sqeuclidean", "disjoint"),
    ("sinkhorn", "euclidean", "permute"),
    ("exact", "euclidean", "disjoint"),
    ("exact", "sqeuclidean", "permute"),
]


@functools.cache
def jitted_transport(**options):
    return jax.jit(functools.partial(pairings.transport, **options))


def assert_permutation(partner):
    assert partner.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(partner), np.arange(len(partner)))


def test_permutation_is_uniform():
    """All 24 permutations of 4 samples, fixed points included, equally often."""
    draw = jax.vmap(lambda rng: pairings.permutation(jnp.ones((4, 1)), rng))
    drawn = np.asarray(draw(jax.random.split(KEY, 6000)))
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_roll_takes_the_next_sample():
    np.testing.assert_array_equal(pairings.roll(jnp.ones((5, 2)), KEY), [1, 2, 3, 4, 0])
    np.testing.assert_array_equal(pairings.roll(jnp.ones((5, 2)), KEY, shift=-2), [3, 4, 0, 1, 2])
    np.testing.assert_array_equal(pairings.roll(jnp.ones((1, 2)), KEY), [0])
    with pytest.raises(ValueError, match=r"shift=10 leaves all 5 samples with themselves: take one from 1 to 4"):
        pairings.roll(jnp.ones((5, 2)), KEY, shift=10)


@pytest.mark.parametrize(("solver", "cost", "groups"), TRANSPORTS)
def test_transport_is_a_permutation(solver, cost, groups):
    partner = jitted_transport(k=8, solver=solver, cost=cost, groups=groups)(images(32), KEY)
    assert_permutation(partner)


@pytest.mark.parametrize("k", [2, 12])
def test_transport_never_leaves_a_sample_with_itself(k):
    transport = jitted_transport(k=k, solver="exact")
    for seed in range(20):
        partner = transport(jnp.ones((24, 3)), jax.random.key(seed))
        assert np.all(partner != np.arange(24))


@pytest.mark.parametrize("k", [2, 12])
def test_groups_go_in_a_ring(k):
    """Each group of the shuffled batch is matched with the next, the last with the first."""
    partner = np.asarray(jitted_transport(k=k, solver="exact")(jnp.asarray(random_fields(24, size=4)), KEY))
    group = np.empty(24, int)
    group[np.asarray(jax.random.permutation(KEY, 24))] = np.arange(24) // k
    np.testing.assert_array_equal(group[partner], (group + 1) % (24 // k))


def test_transport_at_k_1_is_permutation_draw_for_draw():
    for groups in ("disjoint", "permute"):
        partner = pairings.transport(images(), KEY, k=1, groups=groups)
        np.testing.assert_array_equal(partner, pairings.permutation(images(), KEY))
    jax.tree.map(
        np.testing.assert_array_equal,
        jaxmix.kmixup(images(), one_hot(), KEY, k=1, alpha=0.3),
        jaxmix.mixup(images(), one_hot(), KEY, alpha=0.3),
    )


@pytest.mark.parametrize(("k", "cost"), [(2, "sqeuclidean"), (16, "sqeuclidean"), (5, "euclidean")])
def test_exact_transport_is_the_optimum_between_groups_of_the_batch(k, cost):
    """With two groups of k, scipy solves both matchings from the indices alone."""
    batch = random_fields(2 * k, size=8)
    points = batch.reshape(2 * k, -1)
    partner = np.asarray(jitted_transport(k=k, solver="exact", cost=cost)(batch, KEY))
    distances = spatial.distance.cdist(points, points, cost)
    first = np.flatnonzero(np.isin(np.arange(2 * k), np.asarray(jax.random.permutation(KEY, 2 * k))[:k]))
    second = np.setdiff1d(np.arange(2 * k), first)
    for anchors, candidates in ((first, second), (second, first)):
        assert set(partner[anchors]) == set(candidates)
        between = distances[np.ix_(anchors, candidates)]
        optimum = between[optimize.linear_sum_assignment(between)].sum()
        assert distances[anchors, partner[anchors]].sum() == pytest.approx(optimum, rel=1e-5)


def test_permuted_groups_are_slices_of_the_batch_and_of_its_permutation():
    n, k = 16, 4
    pool = np.asarray(jax.random.permutation(KEY, n))
    partner = np.asarray(jitted_transport(k=k, groups="permute")(images(n), KEY))
    for start in range(0, n, k):
        assert set(partner[start : start + k]) == set(pool[start : start + k])


@pytest.mark.parametrize("k", [16, 64])
def test_permuted_groups_leave_samples_with_themselves_as_often_as_derived(k):
    """A sample is in its own partner group with probability k / n, and is then its own nearest."""
    batch = np.random.default_rng(0).normal(size=(128, 200)).astype(np.float32)
    transport = jitted_transport(k=k, solver="exact", groups="permute")
    same = [np.mean(transport(batch, jax.random.key(seed)) == np.arange(128)) for seed in range(30)]
    assert np.mean(same) == pytest.approx(k / 128, abs=0.03)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_share_of_cross_cluster_matches_is_the_derived_one(k):
    """With tight, far, equally likely clusters it is E|A - B| / k of two binomials, C(2k, k) / 4^k."""
    transport = jitted_transport(k=k, solver="exact")
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        cluster = rng.integers(0, 2, 256)
        points = (100 * cluster[:, None] + rng.normal(size=(256, 2))).astype(np.float32)
        partner = np.asarray(transport(points, jax.random.key(seed)))
        shares.append(np.mean(cluster != cluster[partner]))
    assert np.mean(shares) == pytest.approx(math.comb(2 * k, k) / 4**k, abs=0.015)
    assert np.mean(shares) <= (2 * k) ** -0.5 + 0.01  # the paper's bound


def test_larger_groups_bring_partners_nearer():
    batch = random_fields(256, size=8)
    distances = [float(pairings.displacement(batch, jitted_transport(k=k)(batch, KEY))) for k in (2, 8, 32)]
    assert distances[0] > distances[1] > distances[2]


def test_displacement_is_the_mean_squared_distance():
    batch, partner = random_fields(16, size=4), np.random.default_rng(0).permutation(16)
    points = batch.reshape(16, -1).astype(np.float64)
    expected = np.mean(np.sum((points - points[partner]) ** 2, 1))
    assert pairings.displacement(batch, jnp.asarray(partner)) == pytest.approx(expected, rel=1e-5)


def test_features_are_what_is_matched():
    batch = images(16)
    partner = pairings.transport(batch, KEY, k=8, solver="exact", features=lambda batch: batch[:, 0, 0, 0] * 1e-3)
    matched = pairings.transport(batch[:, 0, 0, :1], KEY, k=8, solver="exact")
    np.testing.assert_array_equal(partner, matched)
    assert not np.array_equal(partner, pairings.transport(batch, KEY, k=8, solver="exact"))
    with pytest.raises(ValueError, match=r"features return shape \(4,\) for 16 samples"):
        pairings.transport(batch, KEY, k=8, features=lambda batch: jnp.ones(4))


def test_the_lead_leaf_is_matched():
    tree = {"a": jnp.zeros((16, 6, 5)), "image": images(16)}
    np.testing.assert_array_equal(
        pairings.transport(tree, KEY, k=8, solver="exact"), pairings.transport(images(16), KEY, k=8, solver="exact")
    )


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float16"])
def test_distances_are_measured_in_float32(dtype):
    """Squares of pixels overflow uint8 and float16."""
    batch = images(16, dtype=dtype)
    np.testing.assert_array_equal(
        pairings.transport(batch, KEY, k=8, solver="exact"),
        pairings.transport(batch.astype(jnp.float32), KEY, k=8, solver="exact"),
    )


def test_distances_survive_a_large_common_offset():
    """Unlike |x|^2 + |y|^2 - 2xy without centring."""
    batch = random_fields(32, size=4) + 1e4
    partner = jitted_transport(k=16, solver="exact")(batch, KEY)
    points = batch.reshape(32, -1).astype(np.float64)
    distances = spatial.distance.cdist(points, points, "sqeuclidean")
    group = np.flatnonzero(np.isin(np.arange(32), np.asarray(jax.random.permutation(KEY, 32))[:16]))
    between = distances[np.ix_(group, np.setdiff1d(np.arange(32), group))]
    optimum = between[optimize.linear_sum_assignment(between)].sum()
    assert distances[group, np.asarray(partner)[group]].sum() == pytest.approx(optimum, rel=1e-4)


@pytest.mark.parametrize("solver", ["sinkhorn", "exact"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_data_without_distances_still_gives_partners(solver, value):
    batch = np.array(random_fields(16, size=4))
    batch[3, 0, 0, 0] = value
    assert_permutation(jitted_transport(k=8, solver=solver)(batch, KEY))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e7])
def test_one_bad_sample_does_not_disturb_other_groups(value):
    batch = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    transport = jitted_transport(k=8, solver="exact")
    clean = np.asarray(transport(batch, KEY))
    batch[5, 0] = value
    group = np.empty(64, int)
    group[np.asarray(jax.random.permutation(KEY, 64))] = np.arange(64) // 8
    touched = (group == group[5]) | ((group + 1) % 8 == group[5])
    np.testing.assert_array_equal(np.asarray(transport(batch, KEY))[~touched], clean[~touched])


def test_no_gradient_flows_through_the_matching():
    batch, labels = random_fields(8, size=4), one_hot()
    options = {"k": 4, "solver": "sinkhorn"}
    mixed = jax.grad(lambda x: jnp.sum(jaxmix.kmixup(x, labels, KEY, **options)[0] ** 2))(batch)
    pairing = functools.partial(pairings.transport, **options)
    mix = jaxmix.draw(batch, KEY, pairing=pairing, ratio=jaxmix.ratios.beta, mask=jaxmix.masks.uniform)
    fixed = jax.grad(lambda x: jnp.sum(jaxmix.apply(mix, x)[0] ** 2))(batch)
    np.testing.assert_allclose(mixed, fixed, rtol=1e-5)


def test_a_solver_may_be_any_function():
    def diagonal(costs):
        return jnp.broadcast_to(jnp.arange(costs.shape[1], dtype=jnp.int32), costs.shape[:2])

    order = np.asarray(jax.random.permutation(KEY, 12)).reshape(3, 4)
    partner = np.asarray(jitted_transport(k=4, solver=diagonal)(images(12), KEY))
    np.testing.assert_array_equal(partner[order], np.roll(order, -1, axis=0))
    loose = functools.partial(assignment.sinkhorn, epsilon=1.0, num_iterations=5)
    assert_permutation(jitted_transport(k=4, solver=loose)(images(12), KEY))


@pytest.mark.parametrize(
    ("n", "k", "message"),
    [
        (10, 4, r"k=4 and a batch of 10: k does not divide it; take k from \[1, 2, 5\], or a batch of 8 or 12"),
        (8, 8, r"k=8 and a batch of 8: k makes one group of it.*take k from \[1, 2, 4\], or a batch of 16"),
        (6, 16, r"k=16 and a batch of 6: k does not divide it; take k from \[1, 2, 3\], or a batch of 32"),
        (8, 0, "k must be at least 1, got 0"),
    ],
)
def test_groups_that_do_not_fit_are_refused_with_those_that_do(n, k, message):
    with pytest.raises(ValueError, match=message):
        pairings.transport(images(n), KEY, k=k)


@pytest.mark.parametrize(("option", "names"), [("solver", "sinkhorn, exact"), ("groups", "disjoint, permute")])
def test_unknown_options_are_refused(option, names, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=f"unknown {option} 'greedy': take one of {names}"):
        jaxmix.kmixup(images(), one_hot(), KEY, k=4, **{option: "greedy"})


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_])
def test_between_classes_there_is_no_distance_unless_features_make_one(dtype):
    classes = jnp.asarray(jnp.arange(8) % 2, dtype)[:, None]
    message = rf"leaf of highest rank must be float.*got dtype {jnp.dtype(dtype).name}: pass features"
    with pytest.raises(TypeError, match=message):
        pairings.transport(classes, jax.random.key(0), k=4)
    with pytest.raises(TypeError, match=message):
        pairings.displacement(classes, jnp.arange(8))
    partner = pairings.transport(
        classes, jax.random.key(0), k=4, features=lambda batch: batch.astype(jnp.float32), solver="exact"
    )
    assert sorted(partner.tolist()) == [*range(8)]


def partners_by_chance(pairing, labels, n=6000):
    """What a pairing that looks at labels draws with as many keys."""
    batch = jnp.ones((len(jax.tree.leaves(labels)[0]), 2))
    return np.asarray(jax.jit(jax.vmap(lambda rng: pairing(batch, rng, labels=labels)))(jax.random.split(KEY, n)))


def assert_drawn_by(partners, expected):
    """Each sample's partners come as often as its row says, and where that is 0, never."""
    for drawn, probabilities in zip(partners.T, expected, strict=True):
        counts = np.bincount(drawn, minlength=len(probabilities))
        assert not counts[probabilities == 0].any()
        possible = probabilities > 0
        assert stats.chisquare(counts[possible], len(drawn) * probabilities[possible]).pvalue > 1e-3


def test_similar_labels_meet_as_often_as_a_gaussian_of_their_distance_says():
    """Of all that a sample's labels are, itself included; about 1e6, where a difference of squares is lost."""
    labels = {"box": jnp.array([[0.0, 1.0], [1.0, 1.0], [3.0, 0.0], [0.5, -1.0]]), "age": 1e6 + jnp.arange(4.0)}
    flat = np.concatenate([np.asarray(labels["age"], np.float64)[:, None], labels["box"]], 1)
    kernel = np.exp(-spatial.distance.cdist(flat, flat, "sqeuclidean") / (2 * 1.5**2))
    pairing = functools.partial(pairings.similar_labels, bandwidth=1.5)
    assert_drawn_by(partners_by_chance(pairing, labels), kernel / kernel.sum(1, keepdims=True))


def test_labels_that_are_not_finite_or_lie_apart_leave_samples_with_themselves():
    labels = jnp.array([0.0, jnp.nan, 1e4, jnp.inf, 0.0, jnp.inf])
    partner = partners_by_chance(functools.partial(pairings.similar_labels, bandwidth=1.0), labels, n=50)
    np.testing.assert_array_equal(partner[:, [1, 2, 3, 5]], np.tile([1, 2, 3, 5], (50, 1)))
    assert set(partner[:, [0, 4]].ravel()) == {0, 4}


def test_same_class_is_a_uniform_permutation_within_every_class():
    """All 6 x 2 of a class of 3 and one of 2, equally often."""
    drawn, counts = np.unique(
        partners_by_chance(pairings.same_class, jax.nn.one_hot(CLASSES, 3)), axis=0, return_counts=True
    )
    assert len(drawn) == 12
    for partner in drawn:
        assert_permutation(partner)
        np.testing.assert_array_equal(CLASSES[partner], CLASSES)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_other_class_is_uniform_over_all_other_classes():
    classes = np.array([1, 0, 1, 2, 2, 1])
    other = classes[:, None] != classes[None]
    partners = partners_by_chance(pairings.other_class, jax.nn.one_hot(classes, 4))
    assert partners.dtype == jnp.int32
    assert_drawn_by(partners, other / other.sum(1, keepdims=True))
    alone = partners_by_chance(pairings.other_class, jax.nn.one_hot(jnp.ones(3, int), 4), n=10)
    np.testing.assert_array_equal(alone, np.tile(np.arange(3), (10, 1)))


def test_methods_give_their_labels_to_a_pairing_also_as_text():
    labels = jax.nn.one_hot(CLASSES, 3)
    same = jaxmix.mixup(images(5), labels, KEY, pairing=pairings.same_class)
    np.testing.assert_allclose(same[1], labels, atol=1e-6)
    assert not np.allclose(same[0], images(5))
    jax.tree.map(
        np.testing.assert_array_equal, jaxmix.policy("mixup(pairing=same_class)")(images(5), labels, KEY), same
    )
    other = jaxmix.policy("sometimes(mixup(pairing=other_class), probability=0.99)")(images(5), labels, KEY)[1]
    assert np.all(np.sum(np.asarray(other) > 0, axis=1) == 2)
    assert jaxmix.policy("cutmix(pairing=similar_labels(bandwidth=0.5))")(images(5), labels, KEY)[1].shape == (5, 3)


@pytest.mark.parametrize("name", ["similar_labels", "same_class", "other_class"])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "looks at labels, and there are none: pass labels to the method, pass labels= to draw, or"),
        ({}, ValueError, "looks at labels, and there are none"),
        (jnp.ones((7, 3)), ValueError, r"labels have shape \(7, 3\), but the batch has 8 samples"),
        (jnp.arange(8), TypeError, r"labels have dtype int32: pass float targets, such as jax.nn.one_hot"),
        (jnp.zeros((8, 2, 2), int), TypeError, "pass float targets, and maps of classes as a part of the batch"),
    ],
)
def test_pairings_that_look_at_labels_need_them(name, labels, error, message):
    with pytest.raises(error, match=message):
        jaxmix.draw(
            images(), KEY, pairing=PAIRINGS[name], ratio=jaxmix.ratios.beta, mask=jaxmix.masks.box, labels=labels
        )


@pytest.mark.parametrize("name", ["same_class", "other_class"])
@pytest.mark.parametrize(
    ("labels", "shapes"),
    [
        (jnp.ones(8), r"\(8,\)"),
        (jnp.ones((8, 1)), r"\(8, 1\)"),
        ({"a": one_hot(), "b": one_hot()}, r"\(8, 8\) and \(8, 8\)"),
    ],
)
def test_what_is_no_class_has_none(name, labels, shapes):
    with pytest.raises(ValueError, match=rf"labels have shape {shapes}, where classes are an array \[8, classes\]"):
        jaxmix.mixup(images(), labels, KEY, pairing=getattr(pairings, name))


@pytest.mark.parametrize("bandwidth", [0.0, -1, float("nan"), float("inf")])
def test_bandwidths_without_a_law_are_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be positive and finite, got"):
        pairings.similar_labels(images(), KEY, bandwidth=bandwidth, labels=one_hot())
