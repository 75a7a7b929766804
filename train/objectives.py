"""What is minimised: objective(model, batch, labels, rng, step) -> (loss, metrics)."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import optax

import jaxmix
from jaxmix import MixFn, PairingFn, regularization
from train import config as config_lib
from train.models.classifier import as_maps, attention

Objective = Callable[[Any, Array, Array, Array, Array], tuple[Array, dict[str, Array]]]
"""(model with its parameters bound, normalised inputs [n, ...], one-hot labels [n, classes], key, number of steps
taken before) -> the loss, and it and others by the names under which they are logged."""


def identity(batch, labels, rng):
    """The MixFn that mixes nothing."""
    del rng
    return batch, labels


class Codec(NamedTuple):
    """A generative model around normalised inputs: encode(inputs) -> latents, decode(latents) -> inputs."""

    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]


class Slots(NamedTuple):
    """Where a MixFn may stand in a model; each is the identity unless given."""

    inputs: MixFn = identity
    embeddings: MixFn = identity
    logits: MixFn = identity
    layers: MixFn = identity
    """Of inputs or of maps between a model's stages, at one of these places: drawn, each as likely, at every call."""


def cross_entropy(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    step: Array,
    *,
    mix: Callable[[Array], Slots],
    clean_weight: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of mixed labels, an Objective.

    Args:
      mix: what is mixed where, at a step.
      clean_weight: of the cross-entropy before embeddings and logits are mixed, which is added.

    Returns:
      The loss, and the metrics to log: those of clean samples, too, unless inputs are mixed.
    """
    input_rng, embedding_rng, logit_rng = jax.random.split(rng, 3)
    slots = mix(step)
    model = as_maps(model)
    batch, labels = slots.inputs(batch, labels, input_rng)
    maps, labels = _features(model, batch, labels, jax.random.fold_in(rng, 3), mix=slots.layers)
    embedding = model.pool(maps)
    clean = measured(model.classify(embedding), labels)
    embedding, labels = slots.embeddings(embedding, labels, embedding_rng)
    logits, labels = slots.logits(model.classify(embedding), labels, logit_rng)
    loss = optax.softmax_cross_entropy(logits.astype(labels.dtype), labels).mean() + clean_weight * clean["clean_loss"]
    return loss, {"loss": loss} | (clean if slots.inputs is slots.layers is identity else {})


def _features(model: Any, batch: Array, labels: Array, rng: Array, *, mix: MixFn) -> tuple[Array, Array]:
    """Maps of a batch that is mixed in one layer, and its labels: only the mixing is compiled for each."""
    if mix is identity:
        return model.features(batch, train=True), labels
    layer_rng, mix_rng = jax.random.split(rng)
    layer = jax.random.randint(layer_rng, (), 0, 1 + len(model.stages))

    def between(stage, maps):
        nonlocal labels
        maps, labels = jax.lax.cond(layer == stage, mix, identity, maps, labels, mix_rng)
        return maps

    return model.features(between(0, batch), train=True, between=between), labels


def dense_multimix(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    step: Array,
    *,
    alpha: Callable[[Array], Any],
    num_mixed: int,
    per_position: bool,
    clean_weight: float,
) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy of points in the convex hull of the batch at every position of the feature maps.

    Args:
      alpha: of a step; a number or a range.
      num_mixed: points at each position.
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
        alpha=alpha(step),
        per_position=per_position,
    )
    loss += clean_weight * clean["clean_loss"]
    return loss, {"loss": loss, **clean}


def measured(logits: Array, labels: Array) -> dict[str, Array]:
    """Mean cross-entropy and accuracy on clean samples."""
    losses = optax.softmax_cross_entropy(logits.astype(labels.dtype), labels)
    hits = jnp.argmax(logits, axis=-1) == jnp.argmax(labels, axis=-1)
    return {"clean_loss": losses.mean(), "clean_accuracy": hits.mean(dtype=labels.dtype)}


def approximate_mixup(
    model: Any,
    batch: Array,
    labels: Array,
    rng: Array,
    step: Array,
    *,
    alpha: Callable[[Array], Any],
    curvature: bool,
) -> tuple[Array, dict[str, Array]]:
    """Mixup's expected cross-entropy to second order, by default without the term of second derivatives.

    The network is shown contracted inputs only, in its batch statistics, too: to be measured rescaled.

    Args:
      alpha: of a step.
      curvature: whether to add the term of second derivatives.

    Returns:
      The loss, and its terms to log.
    """
    module, variables = model.unbind()  # derivatives are of a pure function
    rngs = {"dropout": model.make_rng("dropout")} if model.has_rng("dropout") else {}

    def predict(inputs):
        return module.apply(variables, inputs, train=True, mutable="batch_stats", rngs=rngs)[0]

    loss, terms = regularization.approximate_mixup_loss(
        batch, labels, rng, predict=predict, alpha=alpha(step), curvature=curvature
    )
    model(contracted(batch, labels, rng, alpha=alpha(step))[0], train=True)  # for its batch statistics
    return loss, {"loss": loss, **terms._asdict()}


def contracted(batch: Array, labels: Array, rng: Array, *, alpha: Any) -> tuple[Array, Array]:
    """The MixFn that shows what approximate Mixup is computed at."""
    del rng
    means = regularization.dataset_means([(batch, labels)])
    return regularization.contract((batch, labels), means, alpha=alpha)


def build(config: config_lib.Mix, *, num_steps: int, vae: Codec | None = None) -> Objective:
    """Builds the objective that a configuration describes, for a number of mixed steps, and with the VAE it names."""
    alpha = functools.partial(alpha_at, config, num_steps)
    if config.method == "approximate_mixup":
        return functools.partial(approximate_mixup, alpha=alpha, curvature=config.curvature)
    if config.method == "dense_multimix":
        return functools.partial(
            dense_multimix,
            alpha=alpha,
            num_mixed=config.num_mixed,
            per_position=config.per_position,
            clean_weight=config.clean_weight,
        )
    return functools.partial(
        cross_entropy,
        mix=lambda step: slots(config, alpha(step), vae),
        clean_weight=config.clean_weight,
    )


def alpha_at(config: config_lib.Mix, num_steps: int, step: Any) -> Any:
    """The alpha of a step: linear in it, or the plain number or range that a configuration fixes."""
    if config.alpha_range:
        return config.alpha_range
    if not config.final_alpha:
        return config.alpha
    return optax.linear_schedule(config.alpha, config.final_alpha, max(num_steps, 1))(step)


def reconstructed(batch: Array, labels: Array, rng: Array, *, mix: MixFn, vae: Codec) -> tuple[Array, Array]:
    """The control of VarMixup: a MixFn of what a VAE makes of the inputs."""
    return mix(jaxmix.latent.reconstruct(batch, encode=vae.encode, decode=vae.decode), labels, rng)


def slots(config: config_lib.Mix, alpha: Any, vae: Codec | None = None) -> Slots:
    """What a configuration mixes, and in which space; nothing where that is not a slot's."""
    config_lib.known("space", config.space, Slots._fields)
    return Slots() if config.method == "dense_multimix" else Slots(**{config.space: mix_fn(config, alpha, vae)})


def mix_fn(config: config_lib.Mix, alpha: Any, vae: Codec | None = None) -> MixFn:
    """Builds the MixFn that a configuration describes; a bad value raises as jaxmix does."""
    transport: dict[str, Any] = {"k": config.k, "solver": config.solver}
    known_pairings: dict[str, PairingFn] = {
        "permutation": jaxmix.pairings.permutation,
        "transport": functools.partial(jaxmix.pairings.transport, **transport),
    }
    config_lib.known("pairing", config.pairing, list(known_pairings))
    pairing = known_pairings[config.pairing]
    common: dict[str, Any] = {"alpha": alpha, "shared": config.shared}
    paired = common | {"pairing": pairing}
    coded: dict[str, Any] = {"interpolation": config.interpolation, "real_fraction": config.real_fraction}
    hull: dict[str, Any] = {"alpha": alpha, "num_mixed": config.num_mixed}
    methods: dict[str, MixFn] = {
        "erm": identity,
        "mixup": functools.partial(jaxmix.mixup, **paired),
        "cutmix": functools.partial(jaxmix.cutmix, **paired),
        "hmix": functools.partial(jaxmix.hmix, **paired, area_ratio=config.area_ratio),
        "gmix": functools.partial(jaxmix.gmix, **paired),
        "kmixup": functools.partial(jaxmix.kmixup, **common, **transport),
        "varmixup": functools.partial(
            jaxmix.varmixup, alpha=alpha, pairing=pairing, **coded, **(vae._asdict() if vae else {})
        ),
        "multimix": functools.partial(jaxmix.multimix, **hull),
        "dense_multimix": functools.partial(jaxmix.dense_multimix, **hull, per_position=config.per_position),
        "approximate_mixup": functools.partial(contracted, alpha=alpha),
    }
    config_lib.known("method", config.method, list(methods))
    method = methods[config.method]
    if vae and config.method != "varmixup":
        method = functools.partial(reconstructed, mix=method, vae=vae)
    return method if config.probability == 1 else jaxmix.sometimes(method, probability=config.probability)
