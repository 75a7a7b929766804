"""Objectives that regularise as Mixup does on average: its expansion around contracted samples."""

from collections.abc import Callable
from typing import Any

from jax import Array
import optax

from jaxmix import regularization
from jaxmix.types import Scalar


def approximate_mixup(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    alpha: Scalar = 1.0,
    curvature: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Computes Mixup's expected cross-entropy to second order, by default without the curvature term.

    The network sees contracted inputs only, also in its batch statistics. Measure it rescaled.

    Args:
      alpha: concentration of Mixup's Beta distribution, > 0.
      curvature: whether to add the curvature term, which needs second derivatives.

    Returns:
      The loss, and its terms to log.
    """
    predict = _pure(model)
    loss, terms = regularization.approximate_mixup_loss(
        batch, labels, rng, predict=predict, alpha=alpha, curvature=curvature
    )
    _update_statistics(model, batch, labels, rng, alpha=alpha)
    return loss, {"loss": loss, **terms._asdict()}


def linearized_mixup(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    alpha: Scalar = 1.0,
) -> tuple[Array, dict[str, Array]]:
    """Computes Mixup's cross-entropy for the network linearized around contracted inputs, which has a lower bound.

    The network sees contracted inputs only, also in its batch statistics. Measure it rescaled.

    Args:
      alpha: concentration of Mixup's Beta distribution, > 0.

    Returns:
      The loss, to log.
    """
    outputs, targets = regularization.linearized_mixup(batch, labels, rng, predict=_pure(model), alpha=alpha)
    loss = optax.softmax_cross_entropy(outputs.astype(targets.dtype), targets).mean()
    _update_statistics(model, batch, labels, rng, alpha=alpha)
    return loss, {"loss": loss}


def contracted(batch: Array, labels: Array, rng: Array, *, alpha: Any) -> tuple[Array, Array]:
    """Contracts inputs and labels, as both objectives do; a MixFn."""
    del rng
    means = regularization.dataset_means([(batch, labels)])
    return regularization.contract((batch, labels), means, alpha=alpha)


def _pure(model: Any) -> Callable[[Array], Array]:
    """Returns the model as a pure function from inputs to logits, for derivatives."""
    module, variables = model.unbind()
    rngs = {"dropout": model.make_rng("dropout")} if model.has_rng("dropout") else {}
    return lambda inputs: module.apply(variables, inputs, train=True, mutable="batch_stats", rngs=rngs)[0]


def _update_statistics(model: Any, batch: Array, labels: Array, rng: Array, *, alpha: Scalar) -> None:
    """Updates the statistics of batch normalisation by contracted inputs."""
    model(contracted(batch, labels, rng, alpha=alpha)[0], train=True)
