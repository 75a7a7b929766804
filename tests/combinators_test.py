import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.conftest import images, one_hot

KEY = jax.random.key(2)


def negate(batch, labels, rng):
    """A MixFn that shows where it was applied."""
    return -batch, -labels


def double(batch, labels, rng):
    return 2 * batch, 2 * labels


def widen(batch, labels, rng):
    return jnp.concatenate([batch, batch]), jnp.concatenate([labels, labels])


BATCH, LABELS = jnp.ones((4000, 2)), jnp.ones((4000, 3))


@pytest.mark.parametrize("probability", [0.0, 0, 0.3, 1, 1.0, np.float32(0.3)])
def test_sometimes_mixes_that_share_of_samples_with_their_labels(probability):
    batch, labels = jaxmix.sometimes(negate, probability=probability)(BATCH, LABELS, KEY)
    assert np.mean(batch[:, 0] < 0) == pytest.approx(probability, abs=0.03)
    np.testing.assert_array_equal(batch[:, 0], labels[:, 0])
    np.testing.assert_array_equal(batch[:, 0], batch[:, 1])


def test_sometimes_takes_a_traced_probability():
    @jax.jit
    def share(probability):
        return jnp.mean(jaxmix.sometimes(negate, probability=probability)(BATCH, LABELS, KEY)[0] < 0)

    assert share(0.0) == 0
    assert share(1.0) == 1


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_sometimes_refuses_what_is_no_probability(probability):
    with pytest.raises(ValueError, match=rf"probability must lie in \[0, 1\], got {probability}"):
        jaxmix.sometimes(negate, probability=probability)


def test_sometimes_refuses_a_function_that_changes_shapes():
    with pytest.raises(ValueError, match=r"widen returns .*\(8000, 2\).* its input is .*\(4000, 2\)"):
        jaxmix.sometimes(widen, probability=0.5)(BATCH, LABELS, KEY)


def test_one_of_chooses_one_for_the_whole_batch_as_often_as_asked():
    fn = jaxmix.one_of(negate, double, probabilities=(0.2, 0.8))
    chosen = jax.jit(jax.vmap(lambda rng: fn(BATCH[:5], LABELS[:5], rng)[0]))(jax.random.split(KEY, 2000))
    assert np.all(chosen == chosen[:, :1, :1])
    assert np.mean(chosen[:, 0, 0] == 2) == pytest.approx(0.8, abs=0.03)
    assert np.mean(chosen[:, 0, 0] == -1) == pytest.approx(0.2, abs=0.03)


def test_one_of_per_sample_chooses_for_each_with_its_labels():
    fn = jaxmix.one_of(negate, double, lambda *args: args[:2], probabilities=(0.2, 0.5, 0.3), per_sample=True)
    batch, labels = fn(BATCH, LABELS, KEY)
    np.testing.assert_array_equal(batch[:, 0], labels[:, 0])
    for value, share in ((-1, 0.2), (2, 0.5), (1, 0.3)):
        assert np.mean(batch[:, 0] == value) == pytest.approx(share, abs=0.03)


def test_one_of_is_uniform_by_default():
    batch, _ = jaxmix.one_of(negate, double, per_sample=True)(BATCH, LABELS, KEY)
    assert np.mean(batch[:, 0] == 2) == pytest.approx(0.5, abs=0.03)


def test_one_of_gives_the_result_of_the_function_it_chose():
    fn = jaxmix.one_of(jaxmix.mixup, jaxmix.cutmix, probabilities=(0.0, 1.0))
    _, mix_rng = jax.random.split(KEY)
    jax.tree.map(
        np.testing.assert_array_equal, fn(images(), one_hot(), KEY), jaxmix.cutmix(images(), one_hot(), mix_rng)
    )


@pytest.mark.parametrize("probabilities", [(0.5,), (0.5, 0.6), (-0.5, 1.5), (float("nan"), 1.0)])
def test_one_of_refuses_what_are_no_probabilities(probabilities):
    with pytest.raises(ValueError, match=r"2 numbers in .* sum to 1, one per function, got"):
        jaxmix.one_of(negate, double, probabilities=probabilities)


def test_containers_of_one_s_own_are_mixed():
    """A registered class is compared by what is in it: it need not define equality."""

    class Pair:
        def __init__(self, first, second):
            self.first, self.second = first, second

    jax.tree_util.register_pytree_node(Pair, lambda pair: ((pair.first, pair.second), None), lambda _, two: Pair(*two))
    batch = Pair(images(), images(channels=1))
    for method in (jaxmix.sometimes(jaxmix.cutmix, probability=1.0), jaxmix.one_of(jaxmix.cutmix, jaxmix.mixup)):
        mixed, _ = method(batch, one_hot(), jax.random.key(0))
        assert mixed.second.shape == batch.second.shape
    mean, _ = jaxmix.regularization.dataset_means([(batch, one_hot())])
    assert mean.first.shape == batch.first.shape[1:]


def test_one_of_refuses_branches_of_unequal_shape_naming_both():
    for per_sample in (False, True):
        with pytest.raises(ValueError, match=r"widen returns .*\(8000, 2\).*negate returns .*\(4000, 2\)"):
            jaxmix.one_of(negate, widen, per_sample=per_sample)(BATCH, LABELS, KEY)
    with pytest.raises(ValueError, match="at least one function"):
        jaxmix.one_of()


def test_in_latent_space_decodes_the_mixed_codes():
    """In log space mixup is a geometric mean."""
    batch = jnp.exp(jax.random.normal(KEY, (8, 3)))
    fn = jaxmix.in_latent_space(jaxmix.mixup, encode=jnp.log, decode=jnp.exp)
    mixed, labels = fn(batch, one_hot(), KEY)
    np.testing.assert_allclose(mixed, np.exp(labels @ np.log(batch)), rtol=1e-5)


def test_in_latent_space_refuses_a_decoder_that_does_not_return_batches():
    fn = jaxmix.in_latent_space(jaxmix.mixup, encode=lambda x: x, decode=lambda x: x.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"decode returns .*bfloat16.*the batch is .*float32"):
        fn(BATCH, LABELS, KEY)


def test_combinators_compose():
    policy = jaxmix.sometimes(
        jaxmix.one_of(functools.partial(jaxmix.mixup, alpha=0.2), jaxmix.cutmix, probabilities=(0.3, 0.7)),
        probability=0.5,
    )
    labels = jax.jit(policy)(images(64), one_hot(64), KEY)[1]
    np.testing.assert_allclose(labels.sum(1), 1, atol=1.2e-7)
    assert 0.2 < np.mean(np.diagonal(labels) == 1) < 0.85


def test_who_is_mixed_and_how_have_keys_of_their_own():
    def marks(batch, labels, rng):
        return jnp.where(jax.random.bernoulli(rng, 0.5, (64, 1)), batch + 1, batch + 2), labels

    for rng in jax.random.split(jax.random.key(0), 3):
        marked, _ = jaxmix.sometimes(marks, probability=0.5)(jnp.zeros((64, 1)), None, rng)
        assert set(np.unique(marked)) == {0, 1, 2}
