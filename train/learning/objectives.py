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
    """Mixes inputs, or maps between a model's stages, at one place that is drawn uniformly in every call."""


def cross_entropy(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    *,
    slots: Slots,
    clean_weight: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """Computes the mean cross-entropy with mixed labels, an Objective.

    Args:
      slots: the MixFn to apply at each place.
      clean_weight: weight of the cross-entropy before embeddings and logits are mixed, which is added.

    Returns:
      The loss, and the metrics to log, with those of clean samples unless inputs are mixed.
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
    """Computes the mean cross-entropy of mixed inputs plus that of clean inputs, an Objective.

    One forward pass takes both halves, twice as many samples as the batch has, and batch statistics cover both.
    With Mixup this is RegMixup.

    Args:
      mix: the MixFn for inputs.
      clean_weight: weight of the cross-entropy of clean inputs, which is added.

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
    """Computes maps of a batch that is mixed in one layer, and its labels; only the mixing is compiled per layer."""
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
    """Computes Dense MultiMix' mean cross-entropy, over points in the batch's convex hull at every position.

    Args:
      num_mixed: number of points at each position.
      alpha: concentration of the Dirichlet, > 0, or a range (low, high).
      per_position: whether each position has its own draws.
      clean_weight: weight of the cross-entropy of pooled maps, which is added.

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
    """Returns mean cross-entropy and accuracy on clean samples."""
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
    """Computes the mean cross-entropy of CutMix' samples, with labels by the attention of a transformer's class token.

    A sample's share by attention is the part of the class token's attention that goes to its patches. A patch that the
    box cuts counts by its area. No gradient flows through the share. See Chen et al., 2022, https://arxiv.org/abs/2111.09833.

    Args:
      alpha: concentration of the ratio's Beta distribution, > 0.
      attended: weight of the share by attention in the labels' share, in [0, 1]; the rest is the share by area. The
        released code takes one half.
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
    """Averages masks [n, h, w] over `count` square patches, in the order of rows: [n, count]."""
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
