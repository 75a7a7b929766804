"""How far small perturbations, chosen against a model, lower its accuracy: FGSM and PGD in the maximum norm.

Images lie in [0, 1]. `predict` is any function of images [n, ...] to logits [n, classes] that treats every
sample on its own: the model in evaluation mode, its normalisation inside, and inside it too whatever is done to
an image before the model at test time, since an attack that does not know of a defence says nothing about it.

What an attack does not find may still be there. Before a model is called robust, its accuracy should fall no
further with more steps and restarts, reach 0 as epsilon grows, and `diagnose` should find nothing.
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
    """Why attacks may fail on a model that is not robust.

    Attributes:
      zero_gradient: no pixel has a gradient other than 0 (or NaN), so that no attack here can move the sample
        other than at random, [n].
      probabilities: the output is non-negative and sums to 1 (within 1e-3), as if it were probabilities, whose
        softmax has hardly any gradient, [n].
    """

    zero_gradient: Bool[Array, " n"]
    probabilities: Bool[Array, " n"]


def fgsm(
    images: Float[Array, "n ..."], labels: Int[Array, " n"], *, predict: PredictFn, epsilon: Scalar = 8 / 255
) -> Float[Array, "n ..."]:
    r"""Moves every pixel by epsilon to where the loss grows.

    .. math:: x' = \mathrm{clip}_{[0, 1]} \big(x + \epsilon \, \mathrm{sign} \nabla_x \ell(x, y)\big)

    Accuracy under attack counts a sample as correct only if it was correct before, too. A sample whose gradient is
    zero stays where it is, which is not robustness: see `diagnose`.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      predict: images [n, ...] -> logits [n, classes], with all that is done to an image at test time inside.
      epsilon: how far a pixel may move, >= 0.

    Returns:
      Attacked images in float32, at most epsilon away and within [0, 1].

    Raises:
      TypeError: if images are not float, labels not integer, or epsilon is not a single number.
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
    r"""Repeats small steps to where the loss grows, from a random start, inside a box around the image.

    .. math:: x_{t+1} = \mathrm{clip}_{[0, 1]} \, \Pi_{\lVert x' - x \rVert_\infty \le \epsilon}
        \big(x_t + \eta \, \mathrm{sign} \nabla_x \ell(x_t, y)\big)

    Of several restarts each sample keeps one that the model gets wrong, of these and without any the one of highest
    loss. Epsilon and step_size may be traced: one program serves all of them.

    Accuracy under attack counts a sample as correct only if it was correct before, too. Without zero gradients in
    the way (see `diagnose`), it still is an upper bound, to be tried with more steps and several restarts.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      rng: a JAX key for each sample, [n], so that results do not depend on how samples are batched.
      predict: images [n, ...] -> logits [n, classes], with all that is done to an image at test time inside.
      epsilon: how far a pixel may move, >= 0. At 0 images stay exactly as they are.
      num_steps: steps of each restart.
      step_size: how far a pixel moves in a step, > 0; 2.5 epsilon / num_steps unless given.
      num_restarts: attacks to choose from, each from its own random start.
      random_start: start uniformly in the box (and clip to [0, 1]) rather than at the image.

    Returns:
      Attacked images in float32, at most epsilon away and within [0, 1].

    Raises:
      TypeError: if images are not float, labels not integer, or epsilon or step_size is not a single number.
      ValueError: if a concrete epsilon is negative or a concrete step_size not positive, or either not finite; if
        num_steps or num_restarts is less than 1; if restarts are asked for that all start at the image; or if there
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
    """Looks for what makes attacks by gradients fail, sample by sample: zero gradients and outputs after a softmax.

    Args:
      images: floats in [0, 1], [n, ...].
      labels: integer classes, [n].
      predict: images [n, ...] -> logits [n, classes], as it is to be attacked.

    Returns:
      What was found; all False for a model that can be attacked.

    Raises:
      TypeError: if images are not float or labels not integer.

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
    """One step uphill, projected on the box around the images, then clipped."""
    attacked = attacked + step_size * _direction(attacked, labels, predict)[0]
    return jnp.clip(images + jnp.clip(attacked - images, -epsilon, epsilon), 0, 1)


def _direction(images: Array, labels: Array, predict: PredictFn) -> tuple[Array, Array]:
    """The sign of every sample's gradient, 0 where it is NaN, and the logits."""

    def total(images):
        losses, logits = _losses(images, labels, predict)
        return jnp.sum(losses), logits

    gradient, logits = jax.grad(total, has_aux=True)(images)
    return jnp.where(jnp.isnan(gradient), 0, jnp.sign(gradient)), logits


def _losses(images: Array, labels: Array, predict: PredictFn) -> tuple[Array, Array]:
    """The cross-entropy of every sample, [n], and the logits."""
    logits = predict(images).astype(jnp.float32)
    return calibration.negative_log_likelihood(logits, labels), logits


def _check(images, labels) -> None:
    checks.floats("images", images)
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"labels have dtype {jnp.result_type(labels)}: pass classes, such as labels.argmax(-1)")
