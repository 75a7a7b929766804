"""Mixup as contraction and perturbation: its moments, its law, its second order, its test time."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import integrate, special, stats

import jaxmix
from jaxmix import core, masks, pairings, ratios, regularization

KEY = jax.random.key(3)
# The specification's table.
MOMENTS = {0.1: (0.941576, 0.013344), 0.4: (0.839758, 0.023454), 1.0: (0.75, 0.020833), 8.0: (0.598190, 0.005065)}


def exact_moments(alpha):
    """By the incomplete beta function, in float64."""
    mean = 1 - special.betainc(alpha + 1, alpha, 0.5)
    return mean, 1 / (4 * (2 * alpha + 1)) - (mean - 0.5) ** 2


# --- moments


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 8.0, 64.0])
def test_theta_has_the_moments_of_the_truncated_beta(alpha):
    mean, variance = regularization.theta_moments(alpha)
    assert (mean.dtype, variance.dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_allclose((mean, variance), exact_moments(alpha), atol=5e-6)
    if alpha >= 1:
        law = stats.beta(alpha, alpha)
        first, second = (
            integrate.quad(lambda t, power=power: 2 * law.pdf(t) * t**power, 0.5, 1)[0] for power in (1, 2)
        )
        np.testing.assert_allclose((mean, variance), (first, second - first**2), atol=5e-6)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 15.99, 16.01, 200.0, 1e4, 1e7])
def test_moments_of_any_alpha_keep_their_relative_precision(alpha):
    """By the expansion of the quotient of gamma functions where the incomplete beta function cancels, too."""
    mean, variance = (float(moment) for moment in regularization.theta_moments(alpha))
    excess = 0.5 * np.exp(special.gammaln(alpha + 0.5) - special.gammaln(alpha + 1)) / np.pi**0.5
    assert mean - 0.5 == pytest.approx(excess, rel=1e-5, abs=1e-7)
    exact = max(0.25 / (2 * alpha + 1) - excess**2, 0)
    assert variance == pytest.approx(exact, rel=2e-5, abs=6e-7 if alpha < 1 else 0)
    assert variance >= 0


@pytest.mark.parametrize("alpha", MOMENTS)
def test_theta_has_the_tabulated_moments(alpha):
    np.testing.assert_allclose(regularization.theta_moments(alpha), MOMENTS[alpha], atol=1.5e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_moments_are_differentiable_in_alpha(alpha):
    step = 1e-4 * alpha
    slopes = jax.jit(jax.jacfwd(lambda alpha: jnp.stack(regularization.theta_moments(alpha))))(alpha)
    above, below = np.array(exact_moments(alpha + step)), np.array(exact_moments(alpha - step))
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_is_checked_wherever_it_enters(alpha):
    batch, labels = jnp.ones((4, 2)), jnp.eye(4)
    means = regularization.dataset_means([(batch, labels)])
    for call in (
        lambda: regularization.theta_moments(alpha),
        lambda: regularization.contract(batch, means[0], alpha=alpha),
        lambda: regularization.rescale(jnp.sin, alpha=alpha, mean_batch=means[0], mean_labels=means[1]),
        lambda: regularization.perturbed_erm(batch, labels, KEY, alpha=alpha),
        lambda: regularization.approximate_mixup_loss(batch, labels, KEY, predict=jnp.tile, alpha=alpha),
        lambda: regularization.linearized_mixup(batch, labels, KEY, predict=jnp.sin, alpha=alpha),
    ):
        with pytest.raises(ValueError, match="alpha must be positive and finite, got"):
            call()


# --- the perturbed-ERM view


def samples(n=6, seed=0):
    """Points in the plane off the origin, with soft labels of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.dirichlet(np.ones(3), n)
    return jnp.asarray(rng.normal(2, 1, (n, 2)), jnp.float32), jnp.asarray(labels, jnp.float32)


def test_contraction_plus_perturbation_is_the_mix_of_the_same_draw():
    batch, labels = samples(8)
    alpha = 0.7

    def larger(n, rng):
        ratio = ratios.beta(n, rng, alpha=alpha)
        return jnp.maximum(ratio, 1 - ratio)

    drawn = core.draw(batch, KEY, pairing=pairings.permutation, ratio=larger, mask=masks.uniform)
    expected = jaxmix.apply(drawn, batch, labels)
    got = regularization.perturbed_erm(batch, labels, KEY, alpha=alpha)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, expected)
    assert float(jnp.abs(got[0] - batch).max()) > 0.1


def test_perturbations_have_mean_zero_around_the_contracted_samples():
    batch, labels = samples(4)
    draws = 40_000
    perturbed = jax.jit(jax.vmap(functools.partial(regularization.perturbed_erm, alpha=0.4), (None, None, 0)))
    shown = perturbed(batch, labels, jax.random.split(KEY, draws))
    means = regularization.dataset_means([(batch, labels)])
    contracted = regularization.contract((batch, labels), means, alpha=0.4)
    for seen, centre in zip(shown, contracted, strict=True):
        error = np.asarray(seen).std(0) / draws**0.5
        assert np.all(np.abs(np.asarray(seen).mean(0) - centre) < 5 * error)
    # And the covariance of the paper: sigma^2 v v^T + gamma^2 Cov.
    mean, variance = exact_moments(0.4)
    centred = np.asarray(batch) - np.asarray(means[0])
    covariance = centred.T @ centred / 4
    for i, v in enumerate(centred):
        expected = variance * np.outer(v, v) + (variance + (1 - mean) ** 2) * covariance
        np.testing.assert_allclose(np.cov(np.asarray(shown[0])[:, i].T), expected, atol=0.03)


def test_both_forms_of_mixup_have_one_law():
    """Of any function of a mixed sample and label, averaged over the batch."""
    batch, labels = samples(4)

    def statistic(mix_fn):
        def of_draw(rng):
            x, y = mix_fn(batch, labels, rng, alpha=0.6)
            return jnp.mean(jnp.sin(x[:, 0]) * y[:, 0]), jnp.mean(jnp.exp(-(x[:, 1] ** 2))), jnp.mean(y[:, 2] ** 3)

        return np.stack(jax.jit(jax.vmap(of_draw))(jax.random.split(jax.random.key(5), 40_000)))

    mixup, perturbed = statistic(jaxmix.mixup), statistic(regularization.perturbed_erm)
    error = np.hypot(mixup.std(1), perturbed.std(1)) / 200
    assert np.all(np.abs(mixup.mean(1) - perturbed.mean(1)) < 4 * error)
    assert np.all(error < 0.01 * np.abs(mixup.mean(1)))


def test_mixed_labels_have_the_entropy_of_their_law():
    """The lowest cross-entropy on mixed labels of K balanced classes, in closed form: .45 nats at K = 10, alpha = 1."""
    labels = jnp.eye(10)
    draw = jax.jit(jax.vmap(lambda rng: regularization.perturbed_erm(labels, labels, rng)[1]))
    mixed = np.asarray(draw(jax.random.split(KEY, 4000)), np.float64)
    entropy = -np.sum(special.xlogy(mixed, np.maximum(mixed, 1e-30)), -1)
    expected = 0.9 * (special.psi(3) - special.psi(2))
    assert entropy.mean() == pytest.approx(expected, abs=4 * entropy.std() / 200)
    assert expected == pytest.approx(0.45)


@pytest.mark.parametrize("dtype", ["bfloat16", "uint8"])
def test_perturbed_erm_keeps_dtypes(dtype):
    batch = jnp.arange(0, 240, 5).reshape(4, 3, 2, 2).astype(dtype)
    mixed, labels = regularization.perturbed_erm({"image": batch}, jnp.eye(4, dtype=jnp.bfloat16), KEY)
    assert (mixed["image"].dtype, labels.dtype) == (batch.dtype, jnp.bfloat16)
    wide, _ = regularization.perturbed_erm(batch.astype(jnp.float32), None, KEY)
    np.testing.assert_allclose(mixed["image"].astype(jnp.float32), wide, atol=0.5 if dtype == "uint8" else 1)


# --- test time


def test_means_are_of_all_samples_however_they_are_batched():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 1, (70, 4, 5, 1)).astype(np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 70)]
    batches = iter([({"a": x[i:j]}, y[i:j]) for i, j in ((0, 32), (32, 64), (64, 70))])
    mean_batch, mean_labels = regularization.dataset_means(batches)
    np.testing.assert_allclose(mean_batch["a"], x.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(mean_labels, y.mean(0, dtype=np.float64), rtol=1e-6)
    with pytest.raises(ValueError, match="there are no batches to average"):
        regularization.dataset_means(batches)
    with pytest.raises(TypeError, match="labels have dtype int32: pass float targets"):
        regularization.dataset_means([(x, np.arange(70))])


@pytest.mark.parametrize(("inputs", "outputs"), [(True, True), (True, False), (False, True), (False, False)])
def test_rescaling_is_its_definition_each_half_on_its_own(inputs, outputs):
    rng = np.random.default_rng(1)
    x, mean_batch = rng.normal(size=(5, 4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    weights, mean_labels = (
        rng.normal(size=(12, 6)).astype(np.float32),
        np.full(6, 1 / 6, np.float32) * [1, 1, 1, 1, 2, 0],
    )
    mean_labels = mean_labels.astype(np.float32)

    def predict(x):
        return jnp.tanh(jnp.asarray(x).reshape(len(x), -1) @ weights)

    rescaled = regularization.rescale(
        predict, alpha=0.4, mean_batch=mean_batch, mean_labels=mean_labels, inputs=inputs, outputs=outputs
    )
    theta = exact_moments(0.4)[0]
    seen = theta * x.astype(np.float64) + (1 - theta) * mean_batch if inputs else x
    logits = np.tanh(seen.reshape(5, -1) @ weights.astype(np.float64))
    expected = logits / theta + (1 - 1 / theta) * mean_labels if outputs else logits
    np.testing.assert_allclose(jax.jit(rescaled)(x), expected, atol=6e-6)


def test_rescaling_vanishes_with_alpha():
    x, predict = jnp.ones((3, 2)), lambda x: 3 * x
    rescaled = regularization.rescale(predict, alpha=1e-6, mean_batch=jnp.zeros(2), mean_labels=jnp.full(2, 0.5))
    np.testing.assert_allclose(rescaled(x), predict(x), rtol=1e-5)


def test_balanced_classes_leave_a_temperature():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    balanced = jnp.full(3, 1 / 3)
    rescaled = regularization.rescale(lambda x: x, alpha=1.0, mean_batch=None, mean_labels=balanced, inputs=False)
    np.testing.assert_allclose(jax.nn.softmax(rescaled(logits)), jax.nn.softmax(logits / 0.75), atol=1e-6)


def test_means_of_another_shape_are_refused():
    options = {"alpha": 1.0, "mean_batch": jnp.zeros((1, 2)), "mean_labels": jnp.zeros(3)}
    rescaled = regularization.rescale(lambda x: x, **options)
    with pytest.raises(ValueError, match=r"mean of batch has shape \(1, 2\), and a sample \(2,\): .* dataset_means"):
        rescaled(jnp.ones((5, 2)))
    rescaled = regularization.rescale(lambda x: x, **options, inputs=False)
    with pytest.raises(ValueError, match=r"mean_labels have shape \(3,\), and there are 2 logits"):
        rescaled(jnp.ones((5, 2)))


# --- the second-order loss


def network(params, x):
    return jnp.tanh(x @ params[0]) @ params[1]


def parameters(seed=0, hidden=5):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, hidden), (hidden, 3))]


def losses(kind, outputs, targets):
    if kind == "squared_error":
        return 0.5 * np.sum((outputs - targets) ** 2, -1)
    return -np.sum(targets * special.log_softmax(outputs, -1), -1)


def true_mixup_loss(kind, predict, batch, labels, alpha, points=40):
    """Enumerated over partners; over theta by quadrature for its density on [1/2, 1], in float64."""
    x, y = np.asarray(batch, np.float64), np.asarray(labels, np.float64)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    theta = 0.75 + nodes / 4
    weights = weights / 4 * 2 * stats.beta(alpha, alpha).pdf(theta)
    total = 0.0
    for share, weight in zip(theta, weights, strict=True):
        for shift in range(len(x)):
            mixed, targets = (share * z + (1 - share) * np.roll(z, shift, 0) for z in (x, y))
            total += weight * losses(kind, predict(mixed), targets).mean() / len(x)
    return total


def in_float64(params):
    wide = [np.asarray(p, np.float64) for p in params]
    return lambda x: np.tanh(x @ wide[0]) @ wide[1]


@pytest.mark.parametrize("kind", ["cross_entropy", "squared_error"])
def test_the_error_of_the_second_order_loss_is_of_third_order(kind):
    """Samples and labels at half their distance from their means: an eighth of the error."""
    batch, labels = samples()
    means = [np.asarray(z).mean(0) for z in (batch, labels)]
    params, errors = parameters(), []
    approximate = jax.jit(
        functools.partial(
            regularization.approximate_mixup_loss,
            predict=functools.partial(network, params),
            alpha=2.0,
            loss=kind,
            num_partners=len(batch),
        )
    )
    for scale in (0.5, 0.25):
        x, y = (m + scale * (np.asarray(z) - m) for z, m in zip((batch, labels), means, strict=True))
        value, _ = approximate(jnp.asarray(x), jnp.asarray(y), KEY)
        errors.append(float(value) - true_mixup_loss(kind, in_float64(params), x, y, 2.0))
    assert abs(errors[0]) > 2e-5
    assert 5 < errors[0] / errors[1] < 13


@pytest.mark.slow
def test_every_term_is_its_definition():
    """The covariances and derivatives formed in full."""
    batch, labels = samples()
    params, alpha = parameters(), 0.8
    predict = functools.partial(network, params)
    value, terms = regularization.approximate_mixup_loss(
        batch, labels, KEY, predict=predict, alpha=alpha, num_partners=len(batch)
    )
    theta, variance = exact_moments(alpha)
    spread = variance + (1 - theta) ** 2
    x, y = np.asarray(batch, np.float64), np.asarray(labels, np.float64)
    v, u = x - x.mean(0), y - y.mean(0)
    contracted, smoothed = x.mean(0) + theta * v, y.mean(0) + theta * u
    outputs = in_float64(params)(contracted)

    def single(x):
        return predict(x[None])[0]

    jacobians = np.asarray(jax.vmap(jax.jacfwd(single))(jnp.asarray(contracted, jnp.float32)), np.float64)
    hessians = np.asarray(jax.vmap(jax.hessian(single))(jnp.asarray(contracted, jnp.float32)), np.float64)
    p = special.softmax(outputs, -1)
    expected = dict.fromkeys(("jacobian", "curvature", "alignment"), 0.0)
    for i in range(len(x)):
        sxx = variance * np.outer(v[i], v[i]) + spread * v.T @ v / len(x)
        syx = variance * np.outer(u[i], v[i]) + spread * u.T @ v / len(x)
        metric = np.diag(p[i]) - np.outer(p[i], p[i])
        expected["jacobian"] += 0.5 * np.sum(metric * (jacobians[i] @ sxx @ jacobians[i].T)) / len(x)
        expected["curvature"] += 0.5 * np.sum((p[i] - smoothed[i]) * np.einsum("kab,ab->k", hessians[i], sxx)) / len(x)
        expected["alignment"] -= np.sum(syx * jacobians[i]) / len(x)
    data = losses("cross_entropy", outputs, y).mean()
    expected |= {"data": data, "label_smoothing": losses("cross_entropy", outputs, smoothed).mean() - data}
    expected["label_variance"] = 0.0
    for name, term in expected.items():
        assert float(getattr(terms, name)) == pytest.approx(term, rel=2e-4, abs=2e-6), name
    assert float(value) == pytest.approx(sum(expected.values()), rel=1e-5)
    assert all(abs(expected[name]) > 5e-4 for name in expected if name != "label_variance")


def test_linearized_mixup_is_the_tangent_at_contracted_samples():
    batch, labels = samples()
    first, second = (np.asarray(p, np.float64) for p in parameters())
    outputs, targets = jax.jit(
        functools.partial(regularization.linearized_mixup, predict=functools.partial(network, parameters()), alpha=0.8)
    )(batch, labels, KEY)
    mixed, wanted = regularization.perturbed_erm(batch, labels, KEY, alpha=0.8)
    np.testing.assert_allclose(targets, wanted, rtol=1e-6)
    x = np.asarray(batch, np.float64)
    start = x.mean(0) + exact_moments(0.8)[0] * (x - x.mean(0))
    hidden = np.tanh(start @ first)
    expected = (hidden + (1 - hidden**2) * ((np.asarray(mixed) - start) @ first)) @ second
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(in_float64((first, second))(np.asarray(mixed)) - expected).max() > 0.01


def test_few_partners_estimate_without_bias():
    batch, labels = samples()
    predict = functools.partial(network, parameters())
    loss = functools.partial(regularization.approximate_mixup_loss, batch, labels, predict=predict, alpha=0.8)
    exact, _ = jax.jit(functools.partial(loss, num_partners=6))(KEY)
    values = np.asarray(jax.jit(jax.vmap(lambda rng: loss(rng)[0]))(jax.random.split(KEY, 4000)))
    error = values.std() / 4000**0.5
    assert abs(values.mean() - float(exact)) < 4 * error
    assert 1e-5 < error < 0.01 * abs(float(exact))


@pytest.mark.slow
def test_samples_that_a_network_couples_do_not_bias_the_estimate():
    """Batch normalisation: against the second derivative of the whole batch's loss along perturbations of Mixup."""
    n, alpha, step = 64, 0.8, 0.05
    batch, labels = samples(n, seed=2)
    weights = parameters(seed=2)
    means = regularization.dataset_means([(batch, labels)])
    start = regularization.contract((batch, labels), means, alpha=alpha)

    def predict(x):
        hidden = x @ weights[0]
        normal = (hidden - hidden.mean(0)[None]) / jnp.sqrt(hidden.var(0)[None] + 1e-3)
        return normal @ weights[1]

    def loss_of_batch(x, y):
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(predict(x)), axis=-1))

    def second_order(rng):
        end = regularization.perturbed_erm(batch, labels, rng, alpha=alpha)
        moved = [jax.tree.map(lambda a, b, t=t: a + t * (b - a), start, end) for t in (-step, 0.0, step)]
        low, middle, high = (loss_of_batch(*place) for place in moved)
        return (low - 2 * middle + high) / (2 * step**2)

    def estimate(rng):
        options = {"predict": predict, "alpha": alpha}
        _, terms = regularization.approximate_mixup_loss(batch, labels, rng, **options)
        return terms.jacobian + terms.curvature + terms.alignment

    keys = jax.random.split(KEY, 6000)
    expected, estimated = (np.asarray(jax.jit(jax.vmap(f))(keys), np.float64) for f in (second_order, estimate))
    error = np.hypot(expected.std(), estimated.std()) / 6000**0.5
    assert 5 * error < abs(expected.mean())
    assert abs(estimated.mean() - expected.mean()) < 4 * error + abs(expected.mean()) * 3 / n


def test_an_affine_model_keeps_its_least_squares_solution():
    """The expansion is exact there, and Mixup leaves the minimum where it is: the paper's negative control."""
    batch, labels = samples(12)
    design = np.concatenate([np.asarray(batch, np.float64), np.ones((12, 1))], 1)
    solution = np.linalg.lstsq(design, np.asarray(labels, np.float64), rcond=None)[0]

    def predict(parameters, x):
        return x @ parameters[:2] + parameters[2][None]

    def loss(parameters, alpha):
        return regularization.approximate_mixup_loss(
            batch,
            labels,
            KEY,
            predict=functools.partial(predict, parameters),
            alpha=alpha,
            loss="squared_error",
            num_partners=12,
        )[0]

    optimum, differentiated = jnp.asarray(solution, jnp.float32), jax.jit(jax.value_and_grad(loss))
    for alpha in (1.0, 4.0):
        value, gradient = differentiated(optimum, alpha)

        def in_numpy(x):
            return x @ solution[:2] + solution[2]

        assert float(value) == pytest.approx(true_mixup_loss("squared_error", in_numpy, batch, labels, alpha), rel=1e-5)
        np.testing.assert_allclose(gradient, 0, atol=2e-6)
        assert float(jnp.abs(differentiated(optimum + 0.1, alpha)[1]).max()) > 0.01


def test_the_second_order_loss_trains_a_convolutional_network_under_jit():
    images, labels = jax.random.normal(KEY, (8, 6, 6, 1)), jnp.eye(8)[:, :4] + jnp.eye(8)[:, 4:]
    kernel, head = 0.3 * jax.random.normal(KEY, (3, 3, 1, 4)), 0.3 * jax.random.normal(KEY, (4, 4))

    def predict(params, x):
        maps = jax.lax.conv_general_dilated(x, params[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.softplus(maps).mean((1, 2)) @ params[1]

    @jax.jit
    def step(params, rng):
        def loss(params):
            return regularization.approximate_mixup_loss(
                images, labels, rng, predict=functools.partial(predict, params), alpha=0.4
            )

        (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return value, terms, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

    params, values = (kernel, head), []
    for i in range(30):
        value, terms, params = step(params, jax.random.fold_in(KEY, i))
        values.append(float(value))
    assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.05
    assert float(terms.curvature) != 0


def test_arguments_of_the_second_order_loss_are_checked(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    batch, labels = samples()
    loss = functools.partial(regularization.approximate_mixup_loss, predict=lambda x: x)
    with pytest.raises(ValueError, match="unknown loss 'hinge': take cross_entropy or squared_error"):
        loss(batch, labels, KEY, loss="hinge")
    with pytest.raises(ValueError, match="num_partners must be from 1 to the 6 samples, got 7"):
        loss(batch, labels, KEY, num_partners=7)
    with pytest.raises(TypeError, match="batch must be floats, got dtype uint8"):
        loss(batch.astype(jnp.uint8), labels, KEY)
    with pytest.raises(TypeError, match="pass float targets"):
        loss(batch, jnp.arange(6), KEY)
    with pytest.raises(ValueError, match=r"predict returned shape \(6, 2\) for labels \(6, 3\)"):
        loss(batch, labels, KEY)
    with pytest.raises(ValueError, match=r"predict returned shape \(6,\) for labels \(6, 1\): make both \[n, c\]"):
        loss(batch, labels[:, :1], KEY, predict=lambda x: x[:, 0], loss="squared_error")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_labels_of_half_precision_lose_nothing_in_the_second_order_loss(dtype):
    batch, labels = jnp.eye(4, 2), jnp.eye(4, 3)
    loss = functools.partial(regularization.approximate_mixup_loss, predict=functools.partial(network, parameters()))
    wide, narrow = loss(batch, labels, KEY), loss(batch, labels.astype(dtype), KEY)
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)
    assert narrow[0].dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "uint8"])
def test_contraction_rescaling_and_means_keep_or_widen_dtypes(dtype):
    batch = jnp.arange(0, 240, 5).reshape(4, 3, 4).astype(dtype)
    wide = batch.astype(jnp.float32)
    means = regularization.dataset_means([(batch, jnp.eye(4, dtype=jnp.bfloat16))])
    assert (means[0].dtype, means[1].dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_allclose(means[0], np.asarray(wide).mean(0), rtol=1e-6)
    contracted = regularization.contract(batch, means[0], alpha=1.0)
    exact = regularization.contract(wide, means[0], alpha=1.0)
    assert contracted.dtype == batch.dtype
    np.testing.assert_array_equal(
        contracted, jnp.round(exact).astype(dtype) if dtype == "uint8" else exact.astype(dtype)
    )

    def predict(x):
        return x[:, 0]

    options = {"alpha": 1.0, "mean_batch": means[0], "mean_labels": means[1]}
    if dtype != "uint8":
        rescaled = regularization.rescale(predict, **options)(batch)
        assert rescaled.dtype == batch.dtype
        np.testing.assert_allclose(
            rescaled.astype(jnp.float32), regularization.rescale(predict, **options)(wide), rtol=0.02
        )


def test_means_that_are_not_of_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"the batch is a PyTreeDef\(\*\), and the means are a PyTreeDef\({'x': \*}\)"):
        regularization.contract(jnp.ones((3, 2)), {"x": jnp.ones(2)}, alpha=1.0)
    with pytest.raises(ValueError, match=r"means of a batch are .*\(1,\).*, but those before were .*\(3,\)"):
        regularization.dataset_means([(jnp.ones((4, 3)), jnp.eye(4)), (jnp.ones((4, 1)), jnp.eye(4))])
