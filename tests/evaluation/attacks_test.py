import functools
import warnings

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from jaxmix.evaluation import attacks

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)  # foolbox imports it so
    import foolbox

N, SPACE, CLASSES = 48, (4, 4, 2), 5
EPSILON = 8 / 255


def perceptron(images, frequency=2):
    """A small random network, the more rugged the higher its frequency."""
    rng = np.random.default_rng(1)
    first = jnp.asarray(rng.normal(size=(32, 64)).astype(np.float32))
    last = jnp.asarray(rng.normal(size=(64, CLASSES)).astype(np.float32)) / 2
    return jnp.sin(frequency * (images.reshape(-1, 32) - 0.5) @ first) @ last


def pictures(n=N, seed=0):
    """Pixels from 0 to 1, both included, labelled as the network sees them: its clean accuracy is 1."""
    images = np.random.default_rng(seed).uniform(-0.2, 1.2, (n, *SPACE)).clip(0, 1).astype(np.float32)
    return jnp.asarray(images), jnp.argmax(perceptron(jnp.asarray(images)), axis=1)


def keys(n=N, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def losses(images, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(perceptron(images)), labels[:, None], axis=1)[:, 0]


def constant(images):
    """Two equal logits and no gradient: an attack stays where it starts."""
    return jnp.zeros((images.shape[0], 2))


def by_foolbox(attack, images, labels):
    model = foolbox.JAXModel(perceptron, bounds=(0, 1))
    return attack.run(model, images, foolbox.Misclassification(labels), epsilon=EPSILON)


def test_fgsm_is_foolbox_s():
    images, labels = pictures()
    attacked = attacks.fgsm(images, labels, predict=perceptron, epsilon=EPSILON)
    expected = by_foolbox(foolbox.attacks.LinfFastGradientAttack(), images, labels)
    np.testing.assert_array_equal(attacked, expected)
    assert not np.array_equal(attacked, images)


def test_pgd_is_foolbox_s():
    images, labels = pictures()
    attacked = attacks.pgd(
        images, labels, keys(), predict=perceptron, epsilon=EPSILON, num_steps=10, step_size=0.01, random_start=False
    )
    attack = foolbox.attacks.LinfPGD(steps=10, abs_stepsize=0.01, random_start=False)
    np.testing.assert_allclose(attacked, by_foolbox(attack, images, labels), atol=1e-6, rtol=0)


def test_on_a_linear_model_both_reach_the_worst_corner():
    weight = jnp.asarray(np.random.default_rng(0).normal(size=32).astype(np.float32))
    images, labels = pictures()
    worst = jnp.clip(images + 0.1 * jnp.sign(weight).reshape(1, *SPACE), 0, 1)

    def predict(images):
        score = images.reshape(-1, 32) @ weight
        return jnp.stack([jnp.zeros_like(score), score], axis=1)

    options = {"predict": predict, "epsilon": 0.1}
    np.testing.assert_allclose(attacks.fgsm(images, 0 * labels, **options), worst, atol=1e-6)
    np.testing.assert_allclose(attacks.pgd(images, 0 * labels, keys(), **options), worst, atol=1e-6)


@pytest.fixture(scope="module")
def pgd():
    """One program for all epsilons; tracing it twice fails."""

    @jax.jit
    @chex.assert_max_traces(n=1)
    def attack(images, labels, rng, epsilon):
        return attacks.pgd(images, labels, rng, predict=perceptron, epsilon=epsilon, num_steps=5, num_restarts=3)

    return attack


@pytest.mark.parametrize("epsilon", [0.0, 1 / 255, 8 / 255, 0.4, 2.0])
def test_attacks_stay_in_the_ball_and_among_images(epsilon, pgd):
    images, labels = pictures()
    for attacked in (
        attacks.fgsm(images, labels, predict=perceptron, epsilon=epsilon),
        pgd(images, labels, keys(), epsilon),
    ):
        assert attacked.dtype == jnp.float32
        assert np.abs(attacked - images).max() <= epsilon + 1e-6
        assert np.abs(attacked - images).max() >= min(epsilon, 1) - 1e-6
        assert attacked.min() >= 0
        assert attacked.max() <= 1


def test_epsilon_0_changes_nothing(pgd):
    images, labels = pictures()
    np.testing.assert_array_equal(attacks.fgsm(images, labels, predict=perceptron, epsilon=0), images)
    np.testing.assert_array_equal(pgd(images, labels, keys(), 0.0), images)


def test_stronger_attacks_leave_less_accuracy():
    """A network so rugged that one large step lands anywhere; it is right on all clean images."""
    predict = functools.partial(perceptron, frequency=16)
    images, _ = pictures()
    labels = jnp.argmax(predict(images), axis=1)
    clean, fast, ten, fifty = (
        float(jnp.mean((jnp.argmax(predict(attacked), axis=1) == labels).astype(jnp.float32)))
        for attacked in (
            images,
            attacks.fgsm(images, labels, predict=predict),
            attacks.pgd(images, labels, keys(), predict=predict, num_steps=10),
            attacks.pgd(images, labels, keys(), predict=predict, num_steps=50),
        )
    )
    assert clean > fast + 0.1
    assert fast > ten + 0.1
    assert ten + 1 / N >= fifty


def test_results_do_not_depend_on_the_batch(pgd):
    images, labels = pictures()
    whole = pgd(images, labels, keys(), EPSILON)
    attack = functools.partial(attacks.pgd, predict=perceptron, epsilon=EPSILON, num_steps=5, num_restarts=3)
    parts = [attack(images[s], labels[s], keys()[s]) for s in (slice(0, 2), slice(2, 4))]
    np.testing.assert_allclose(jnp.concatenate(parts), whole[:4], atol=1e-6, rtol=0)


def test_restarts_never_make_it_worse():
    """The first of several restarts is the only one of one, so that what it finds is there to be kept."""
    images, labels = pictures()
    attack = functools.partial(attacks.pgd, images, labels, keys(), predict=perceptron, num_steps=2)
    once, often = attack(num_restarts=1), attack(num_restarts=6)
    wrong_once, wrong_often = (jnp.argmax(perceptron(x), axis=1) != labels for x in (once, often))
    assert not (wrong_once & ~wrong_often).any()
    assert (wrong_often & ~wrong_once).any()
    alike = wrong_once == wrong_often
    assert (losses(often, labels) >= losses(once, labels) - 1e-5)[alike].all()


def test_random_starts_are_uniform_in_the_ball():
    images = jnp.full((500, *SPACE), 0.5)
    attacked = attacks.pgd(images, jnp.zeros(500, jnp.int32), keys(500), predict=constant, epsilon=0.1)
    assert stats.kstest(np.ravel((attacked - images) / 0.1), stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_of_the_restarts_the_one_of_highest_loss_is_kept():
    """Of r independent uniform starts the largest has the distribution function x^r."""

    def predict(images):  # right everywhere, the loss higher where the pixel is, and no gradient
        return jax.lax.stop_gradient(jnp.concatenate([-images, jnp.full_like(images, -9.0)], axis=1))

    kept = attacks.pgd(
        jnp.full((2000, 1), 0.5), jnp.zeros(2000, jnp.int32), keys(2000), predict=predict, epsilon=0.5, num_restarts=4
    )
    assert stats.kstest(np.ravel(kept), lambda x: x**4).pvalue > 0.01


def test_a_restart_that_is_misclassified_is_kept_before_one_of_higher_loss():
    """Below 1/2 the label has probability .35 and is the likeliest of three, above it .45 and is not."""

    def predict(images):
        right, wrong = jnp.log(jnp.array([0.35, 0.33, 0.32])), jnp.log(jnp.array([0.45, 0.54, 0.01]))
        return jnp.where(jax.lax.stop_gradient(images) < 0.5, right[None], wrong[None])

    options = {"predict": predict, "epsilon": 0.5, "num_steps": 1}
    images, labels = jnp.full((64, 1), 0.5), jnp.zeros(64, jnp.int32)
    first = attacks.pgd(images, labels, keys(64), **options)
    kept = attacks.pgd(images, labels, keys(64), **options, num_restarts=20)
    assert 0.25 < (first >= 0.5).mean() < 0.75
    assert (kept >= 0.5).all()


def test_a_gradient_that_is_not_a_number_leaves_a_sample_an_image():
    """The root has none at 0: these samples stay at their start, the others are attacked."""

    def predict(images):
        return jnp.concatenate([jnp.sqrt((images - 0.5) ** 2), jnp.zeros_like(images)], axis=1)

    images, labels = jnp.array([[0.5], [0.75]]), jnp.array([0, 0])
    np.testing.assert_allclose(attacks.fgsm(images, labels, predict=predict, epsilon=0.25), [[0.5], [0.5]])
    np.testing.assert_array_equal(attacks.diagnose(images, labels, predict=predict).zero_gradient, [True, False])


@pytest.mark.parametrize(
    ("predict", "zero_gradient", "probabilities"),
    [
        (perceptron, False, False),
        (lambda x: jax.nn.softmax(perceptron(x)), False, True),
        (lambda x: jax.nn.log_softmax(perceptron(x)), False, False),
        (lambda x: perceptron(x) - perceptron(x).mean(1, keepdims=True) + 1 / CLASSES, False, False),
        (lambda x: perceptron(x.at[:, 0].set(0.5)), False, False),
        (lambda x: perceptron(jnp.round(x * 255) / 255), True, False),
        (lambda x: jax.nn.one_hot(jnp.argmax(perceptron(x), axis=1), CLASSES), True, True),
    ],
)
def test_masked_gradients_and_probabilities_are_seen(predict, zero_gradient, probabilities):
    found = jax.jit(functools.partial(attacks.diagnose, predict=predict))(*pictures(8))
    np.testing.assert_array_equal(found.zero_gradient, np.full(8, zero_gradient))
    np.testing.assert_array_equal(found.probabilities, np.full(8, probabilities))


def test_samples_are_diagnosed_one_by_one():
    """Below 1/2 the one model has no gradient, above it the other's outputs sum to 1."""
    images, labels = jnp.array([[0.25], [0.75]]), jnp.array([0, 0])
    flat = attacks.diagnose(
        images, labels, predict=lambda x: jnp.concatenate([jax.nn.relu(x - 0.5), jnp.zeros_like(x)], axis=1)
    )
    summed = attacks.diagnose(images, labels, predict=lambda x: jnp.concatenate([x, jnp.minimum(1 - x, 0.5)], axis=1))
    np.testing.assert_array_equal(flat.zero_gradient, [True, False])
    np.testing.assert_array_equal(summed.probabilities, [False, True])


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_radius_is_refused(epsilon):
    images, labels = pictures(2)
    message = f"epsilon must be at least 0 and finite, got {epsilon}"
    with pytest.raises(ValueError, match=message):
        attacks.fgsm(images, labels, predict=perceptron, epsilon=epsilon)
    with pytest.raises(ValueError, match=message):
        attacks.pgd(images, labels, keys(2), predict=perceptron, epsilon=epsilon)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_restarts": 0}, "num_restarts must be at least 1, got 0"),
        ({"num_restarts": 2, "random_start": False}, "num_restarts=2 would repeat one attack"),
        ({"step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
    ],
)
def test_options_that_make_no_attack_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attacks.pgd(*pictures(2), keys(2), predict=perceptron, **options)


def test_legacy_keys_attack_alike(monkeypatch):
    images, labels = pictures(2)
    legacy = jax.random.split(jax.random.PRNGKey(3), 2)
    attacked = [attacks.pgd(images, labels, rng, predict=perceptron) for rng in (legacy, keys(2, seed=3))]
    np.testing.assert_array_equal(*attacked)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="one key per sample"):
        attacks.pgd(images, labels, jax.random.PRNGKey(3), predict=perceptron)


def test_arguments_of_the_wrong_kind_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images, labels = pictures(2)
    for attack in (
        functools.partial(attacks.pgd, rng=keys(2), predict=perceptron),
        functools.partial(attacks.fgsm, predict=perceptron),
        functools.partial(attacks.diagnose, predict=perceptron),
    ):
        with pytest.raises(TypeError, match="images must be floats, got dtype uint8"):
            attack(images.astype(jnp.uint8), labels)
        with pytest.raises(TypeError, match=r"labels have dtype float32: pass classes, such as labels.argmax"):
            attack(images, jax.nn.one_hot(labels, CLASSES))
    with pytest.raises(TypeError, match=r"epsilon must be a single number, got array"):
        attacks.fgsm(images, labels, predict=perceptron, epsilon=np.ones(2))
    with pytest.raises(ValueError, match=r"one key per sample, such as jax.random.split\(rng, 2\)"):
        attacks.pgd(images, labels, jax.random.key(0), predict=perceptron)
