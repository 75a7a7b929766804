"""Adversarial attacks in the maximum norm, FGSM and PGD, and a check that they can work on a model.

Images lie in [0, 1]. `predict` is any function from images [n, ...] to logits [n, classes] that treats samples
independently: the model in evaluation mode, with its normalisation and all preprocessing that you apply at test
time. An attack that does not see a defence says nothing about it.

Attacks may miss adversarial examples. Before you call a model robust, check that its accuracy does not fall
further with more steps and restarts, that it reaches 0 as epsilon grows, and that `diagnose` finds nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jaxmix import checks
from jaxmix.evaluation import calibration
from jaxmix.types import Keys, Scalar

PredictFn = Callable[[Array], Array]
"""images [n, ...] -> logits [n, classes]."""


class Diagnosis(NamedTuple):
    """Reasons why attacks may fail on a model that is not robust.

    Attributes:
      zero_gradient: whether the gradient is 0 or NaN at every pixel, so that attacks move the sample at random
        only, [n].
      probabilities: whether the output is nonnegative and sums to 1 (within 1e-3). Then it seems to be
        probabilities, and another softmax of them has hardly any gradient, [n].
    """

    zero_gradient: Bool[Array, " n"]
    probabilities: Bool[Array, " n"]


def fgsm(
    images: Float[Array, "n ..."], labels: Int[Array, " n"], *, predict: PredictFn, epsilon: Scalar = 8 / 255
) -> Float[Array, "n ..."]:
    r"""Moves every pixel by epsilon in the direction that raises the loss.

    .. math:: x' = \mathrm{clip}_{[0, 1]} \big(x + \epsilon \, \mathrm{sign} \nabla_x \ell(x, y)\big)

    For accuracy under attack, count a sample as correct only if it is correct before and after the attack. A sample
    with zero gradient does not move, which is not robustness: see `diagnose`.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      predict: images [n, ...] -> logits [n, classes], including all preprocessing at test time.
      epsilon: largest change of a pixel, >= 0.

    Returns:
      Attacked images in float32, at most epsilon away and within [0, 1].

    Raises:
      TypeError: if images are not float, labels are not integer, or epsilon is not a single number.
      ValueError: if a concrete epsilon is negative or not finite.

    Example:
      >>> predict = lambda x: jnp.stack([x[:, 0], x[:, 1]], axis=1)
      >>> attacks.fgsm(jnp.array([[0.5, 0.5]]), jnp.array([0]), predict=predict, epsilon=0.25)
      Array([[0.25, 0.75]], dtype=float32)

    References:
      Goodfellow et al., `Explaining and Harnessing Adversarial Examples
      <https://arxiv.org/abs/1412.6572>`_, 2014
    """
    _check(images, labels)
    checks.non_negative("epsilon", epsilon)
    images, epsilon = jnp.asarray(images, jnp.float32), jnp.asarray(epsilon, jnp.float32)
    return _step(images, images, labels, predict=predict, epsilon=epsilon, step_size=epsilon)


def pgd(
    images: Float[Array, "n ..."],
    labels: Int[Array, " n"],
    rng: Keys,
    *,
    predict: PredictFn,
    epsilon: Scalar = 8 / 255,
    num_steps: int = 20,
    step_size: Scalar | None = None,
    num_restarts: int = 1,
    random_start: bool = True,
) -> Float[Array, "n ..."]:
    r"""Takes several gradient steps that raise the loss, within epsilon of the image.

    .. math:: x_{t+1} = \mathrm{clip}_{[0, 1]} \, \Pi_{\lVert x' - x \rVert_\infty \le \epsilon}
        \big(x_t + \eta \, \mathrm{sign} \nabla_x \ell(x_t, y)\big)

    From several restarts, each sample keeps an attack that the model classifies wrongly, if there is one. Among
    equals it keeps the one with the highest loss. Epsilon and step_size may be traced, so one program serves all
    their values.

    For accuracy under attack, count a sample as correct only if it is correct before and after the attack. Even
    without zero gradients (see `diagnose`), this is an upper bound: try more steps and several restarts.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      rng: JAX keys [n], one for each sample, so that results do not depend on batching.
      predict: images [n, ...] -> logits [n, classes], including all preprocessing at test time.
      epsilon: largest change of a pixel, >= 0. At 0 images stay exactly as they are.
      num_steps: number of steps in each restart.
      step_size: change of a pixel in a step, > 0; by default 2.5 epsilon / num_steps.
      num_restarts: number of attacks to choose from, each with its own random start.
      random_start: start uniformly within epsilon of the image, clipped to [0, 1], rather than at the image.

    Returns:
      Attacked images in float32, at most epsilon away and within [0, 1].

    Raises:
      TypeError: if images are not float, labels are not integer, or epsilon or step_size is not a single number.
      ValueError: if a concrete epsilon is negative, a concrete step_size is not positive, or either is not finite; if
        num_steps or num_restarts is less than 1; if there are several restarts without a random start; or if there
        is not one key per sample.

    Example:
      >>> predict = lambda x: jnp.stack([x[:, 0], x[:, 1]], axis=1)
      >>> rng = jax.random.split(jax.random.key(0), 1)
      >>> attacks.pgd(jnp.array([[0.5, 0.5]]), jnp.array([0]), rng, predict=predict, epsilon=0.25)
      Array([[0.25, 0.75]], dtype=float32)

    References:
      Madry et al., `Towards Deep Learning Models Resistant to Adversarial Attacks
      <https://arxiv.org/abs/1706.06083>`_, 2017
    """
    _check(images, labels)
    checks.non_negative("epsilon", epsilon)
    if step_size is not None:
        checks.positive("step_size", step_size)
    checks.at_least_one("num_steps", num_steps)
    checks.at_least_one("num_restarts", num_restarts)
    if num_restarts > 1 and not random_start:
        raise ValueError(f"num_restarts={num_restarts} would repeat one attack: pass random_start=True")
    n = jnp.shape(images)[0]
    checks.key_per_sample(rng, n)
    images, epsilon = jnp.asarray(images, jnp.float32), jnp.asarray(epsilon, jnp.float32)
    step_size = 2.5 * epsilon / num_steps if step_size is None else jnp.asarray(step_size, jnp.float32)

    def uniform(restart, rng):
        return jax.random.uniform(jax.random.fold_in(rng, restart), images.shape[1:], jnp.float32, -1, 1)

    def step(_, attacked):
        return _step(attacked, images, labels, predict=predict, epsilon=epsilon, step_size=step_size)

    def attack(kept, restart):
        start = images
        if random_start:
            noise = jax.vmap(uniform, in_axes=(None, 0))(restart, rng)
            start = jnp.clip(images + epsilon * noise, 0, 1)
        attacked = jax.lax.fori_loop(0, num_steps, step, start)
        loss, logits = _losses(attacked, labels, predict)
        wrong = jnp.argmax(logits, axis=-1) != labels
        kept_attacked, kept_wrong, kept_loss = kept
        # Not "loss > kept_loss", so that a NaN does not leave the clean image in place of an attack.
        better = (wrong & ~kept_wrong) | ((wrong == kept_wrong) & ~(loss <= kept_loss))
        return (
            jnp.where(jnp.expand_dims(better, range(1, images.ndim)), attacked, kept_attacked),
            kept_wrong | wrong,
            jnp.where(better, loss, kept_loss),
        ), None

    none = (images, jnp.zeros_like(labels, bool), jnp.full_like(labels, -jnp.inf, jnp.float32))
    return jax.lax.scan(attack, none, jnp.arange(num_restarts))[0][0]


def diagnose(images: Float[Array, "n ..."], labels: Int[Array, " n"], *, predict: PredictFn) -> Diagnosis:
    """Finds samples on which gradient attacks fail: zero gradients, and outputs that are probabilities.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      predict: images [n, ...] -> logits [n, classes], the function to attack.

    Returns:
      The diagnosis, all False for a model that can be attacked.

    Raises:
      TypeError: if images are not float or labels are not integer.

    Example:
      >>> predict = lambda x: jax.nn.softmax(jnp.round(x))
      >>> attacks.diagnose(jnp.array([[0.2, 0.9]]), jnp.array([0]), predict=predict)
      Diagnosis(zero_gradient=Array([ True], dtype=bool), probabilities=Array([ True], dtype=bool))

    References:
      Athalye et al., `Obfuscated Gradients Give a False Sense of Security
      <https://arxiv.org/abs/1802.00420>`_, 2018
    """
    _check(images, labels)
    direction, logits = _direction(jnp.asarray(images, jnp.float32), labels, predict)
    return Diagnosis(
        zero_gradient=jnp.all(direction == 0, axis=range(1, direction.ndim)),
        probabilities=jnp.all(logits >= 0, axis=-1) & (jnp.abs(jnp.sum(logits, axis=-1) - 1) <= 1e-3),
    )


def _step(attacked: Array, images: Array, labels: Array, *, predict: PredictFn, epsilon: Array, step_size: Array):
    """Takes one step that raises the loss, projects it to within epsilon of the images, and clips it to [0, 1]."""
    attacked = attacked + step_size * _direction(attacked, labels, predict)[0]
    return jnp.clip(images + jnp.clip(attacked - images, -epsilon, epsilon), 0, 1)


def _direction(images: Array, labels: Array, predict: PredictFn) -> tuple[Array, Array]:
    """Returns the sign of every sample's gradient, 0 where it is NaN, and the logits."""

    def total(images):
        losses, logits = _losses(images, labels, predict)
        return jnp.sum(losses), logits

    gradient, logits = jax.grad(total, has_aux=True)(images)
    return jnp.where(jnp.isnan(gradient), 0, jnp.sign(gradient)), logits


def _losses(images: Array, labels: Array, predict: PredictFn) -> tuple[Array, Array]:
    """Returns the cross-entropy of every sample, [n], and the logits."""
    logits = predict(images).astype(jnp.float32)
    return calibration.negative_log_likelihood(logits, labels), logits


def _check(images, labels) -> None:
    checks.floats("images", images)
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels have dtype {jnp.result_type(labels)}: pass classes, such as labels.argmax(-1)")
