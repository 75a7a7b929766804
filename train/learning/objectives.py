"""Objectives to minimise: objective(model, batch, labels, rng) -> (loss, metrics)."""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax

import jaxmix
from jaxmix import MixFn, PairingFn, checks, masks, pairings, ratios
from jaxmix.combinators import erm
from jaxmix.types import Scalar
from train.models.classifier import as_maps, attention

Objective = Callable[[Any, Array, Array, Array], tuple[Array, dict[str, Array]]]
"""(model with its parameters bound, normalised inputs [n, ...], one-hot labels [n, classes], key) -> the loss, and it
and others by the names under which they are logged."""


class Slots(NamedTuple):
    """The places in a model where a MixFn may mix; each is the identity by default."""

    inputs: MixFn = erm
    embeddings: MixFn = erm
    logits: MixFn = erm
    layers: MixFn = erm
    """Of inputs or of maps between a model's stages, at one of these places: drawn, each as likely, at every call."""


def cross_entropy(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    slots: Slots,
    clean_weight: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of mixed labels, an Objective.

    Args:
      slots: what is mixed where.
      clean_weight: of the cross-entropy before embeddings and logits are mixed, which is added.

    Returns:
      The loss, and the metrics to log: those of clean samples, too, unless inputs are mixed.
    """
    input_rng, embedding_rng, logit_rng = jax.random.split(rng, 3)
    model = as_maps(model)
    batch, labels = slots.inputs(batch, labels, input_rng)
    maps, labels = _features(model, batch, labels, jax.random.fold_in(rng, 3), mix=slots.layers)
    embedding = model.pool(maps)
    clean = measured(model.classify(embedding), labels)
    embedding, labels = slots.embeddings(embedding, labels, embedding_rng)
    logits, labels = slots.logits(model.classify(embedding), labels, logit_rng)
    loss = optax.softmax_cross_entropy(logits.astype(labels.dtype), labels).mean() + clean_weight * clean["clean_loss"]
    return loss, {"loss": loss} | (clean if slots.inputs is slots.layers is erm else {})


def mixed_and_clean(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    mix: MixFn,
    clean_weight: float,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of mixed inputs, and that of clean ones beside it, an Objective.

    One forward pass sees both, twice as many samples as the batch has: batch statistics are of both halves together.
    With Mixup this is RegMixup.

    Args:
      mix: of inputs.
      clean_weight: of the cross-entropy of clean inputs, which is added.

    Returns:
      The loss, and the metrics to log.

    References:
      Pinto et al., `Using Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out-of-Distribution Robustness
      <https://arxiv.org/abs/2206.14502>`_, 2022
    """
    model = as_maps(model)
    mixed, targets = mix(batch, labels, jax.random.split(rng, 3)[0])  # as cross_entropy would draw it
    both = jnp.concatenate([batch, mixed])
    clean_logits, logits = jnp.split(model.classify(model.pool(model.features(both, train=True))), 2)
    clean = measured(clean_logits, labels)
    loss = optax.softmax_cross_entropy(logits.astype(targets.dtype), targets).mean()
    loss += clean_weight * clean["clean_loss"]
    return loss, {"loss": loss, **clean}


def _features(model: Any, batch: Array, labels: Array, rng: Array, *, mix: MixFn) -> tuple[Array, Array]:
    """Maps of a batch that is mixed in one layer, and its labels: only the mixing is compiled for each."""
    if mix is erm:
        return model.features(batch, train=True), labels
    layer_rng, mix_rng = jax.random.split(rng)
    layer = jax.random.randint(layer_rng, (), 0, 1 + len(model.stages))

    def between(stage, maps):
        nonlocal labels
        maps, labels = jax.lax.cond(layer == stage, mix, erm, maps, labels, mix_rng)
        return maps

    return model.features(between(0, batch), train=True, between=between), labels


def dense_multimix(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    num_mixed: int = 1000,
    alpha: Scalar | tuple[Scalar, Scalar] = 1.0,
    per_position: bool = False,
    clean_weight: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of points in the convex hull of the batch at every position of the feature maps.

    Args:
      num_mixed: points at each position.
      alpha: of the Dirichlet; a number or a range.
      per_position: whether each position has draws of its own.
      clean_weight: of the cross-entropy of pooled maps, which is added.

    Returns:
      The loss, and the metrics to log.
    """
    maps = model.features(batch, train=True)
    clean = measured(model.classify(model.pool(maps)), labels)
    loss = jaxmix.embedding.dense_multimix_loss(
        model.classify(maps).astype(labels.dtype),
        labels,
        rng,
        attention=jax.lax.stop_gradient(attention(model, maps)),
        num_mixed=num_mixed,
        alpha=alpha,
        per_position=per_position,
    )
    loss += clean_weight * clean["clean_loss"]
    return loss, {"loss": loss, **clean}


def measured(logits: Array, labels: Array) -> dict[str, Array]:
    """Mean cross-entropy and accuracy on clean samples."""
    losses = optax.softmax_cross_entropy(logits.astype(labels.dtype), labels)
    hits = jnp.argmax(logits, axis=-1) == jnp.argmax(labels, axis=-1)
    return {"clean_loss": losses.mean(), "clean_accuracy": hits.mean(dtype=labels.dtype)}


def transmix(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    alpha: Scalar = 1.0,
    attended: Scalar = 0.5,
    pairing: PairingFn = pairings.permutation,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of CutMix' samples, with labels by what a transformer's class token attends to in them.

    A sample's share by attention is that of its patches in the class token's attention to all, where a patch that the
    box cuts counts by its area. It is a constant of the gradient. See Chen et al., 2022, https://arxiv.org/abs/2111.09833.

    Args:
      alpha: of the Beta.
      attended: what the share by attention counts in the labels' share; the rest is the share by area. Half of each in
        the released code.
      pairing: picks each sample's partner; by default a random permutation.

    Returns:
      The loss, and the metrics to log.
    """
    checks.probability("attended", attended)
    ratio = functools.partial(ratios.beta, alpha=alpha)
    mix_rng = jax.random.split(rng, 3)[0]  # as cross_entropy would draw it
    mix = jaxmix.draw(batch, mix_rng, pairing=pairing, ratio=ratio, mask=masks.box, labels=labels)
    maps = model.features(jaxmix.apply(mix, batch)[0], train=True)
    weights = jax.lax.stop_gradient(attention(model, maps))[:, 1:].astype(jnp.float32)
    own = _means_of_patches(mix.weight, weights.shape[1])
    share = jnp.sum(weights * own, axis=1) / jnp.sum(weights, axis=1)
    mix = mix._replace(share=attended * share + (1 - attended) * mix.ratio)
    _, labels = jaxmix.apply(mix, None, labels)
    logits = model.classify(model.pool(maps))
    loss = optax.softmax_cross_entropy(logits.astype(labels.dtype), labels).mean()
    return loss, {"loss": loss}


def _means_of_patches(weight: Array, count: int) -> Array:
    """Means of masks [n, h, w] over so many square patches, by rows: [n, count]."""
    n, *space = weight.shape
    if len(space) != 2:
        raise ValueError(f"transmix weighs patches of images [n, h, w, channels], but samples have space {(*space,)}")
    height, width = space
    side = math.isqrt(height * width // max(count, 1))
    if not side or height % side or width % side or height * width != count * side**2:
        raise ValueError(
            f"attention to {count} patches, besides a class token, does not cover images {height} x {width}"
        )
    patches = weight.astype(jnp.float32).reshape(n, height // side, side, width // side, side)
    return patches.mean(axis=(2, 4)).reshape(n, count)
