"""Computes the measures, section by section.

A section is a function of the predictor and the samples. Its random numbers depend on a sample's
index in the split, so that no result depends on the batch size or the number of devices.
"""

from typing import Any, NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from jaxmix import regularization
from jaxmix.evaluation import calibration, embeddings, ood
from train.learning.steps import pixels
from train.measuring import others
from train.measuring.measures import NUM_EMBEDDED, NUM_TRAINED, RESCALINGS
from train.measuring.predictor import Maps, Predictor, Rescaling, Wrap

TEMPERATURE_FOLDS = 5
EPSILONS = (1, 2, 4, 8)  # of 255, l_inf
ZERO_GRADIENTS, PROBABILITIES = "share of samples with a zero gradient", "outputs look like probabilities"
SEED = 0  # of corruptions, random starts and the embedded samples


class Samples(NamedTuple):
    """Inputs, uint8 images or float32 rows, and their classes."""

    inputs: np.ndarray
    labels: np.ndarray

    def first(self, limit: int) -> "Samples":
        """The first of them, see train.measuring.others.first, or all where limit is 0."""
        if not limit:
            return self
        places = others.first(self.labels, limit)
        return Samples(self.inputs[places], self.labels[places])


class Section(NamedTuple):
    """Numbers by key, what they were measured with, and what figures are drawn from."""

    values: dict[str, float]
    settings: dict[str, Any]
    details: dict[str, Any]


def outputs(maps: Maps, inputs: Array) -> Array:
    """Logits."""
    return maps.logits(pixels(inputs))


def embedded(maps: Maps, inputs: Array) -> Array:
    """Embeddings."""
    return maps.embedding(pixels(inputs))


def keys(indices: Array) -> Array:
    """A key for each sample, by its place."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(SEED, impl="threefry2x32"), indices)


def accuracy_of(logits: Array, labels: Array) -> float:
    """The share of samples whose largest logit is of their class."""
    return float(jnp.mean(jnp.argmax(logits, axis=-1) == labels))


def ece_of(logits: Array, labels: Array) -> float:
    """The expected calibration error."""
    return float(calibration.expected_calibration_error(calibration.confidence_bins(logits, labels)))


def clean(predictor: Predictor, samples: Samples, held_out: Samples | None) -> Section:
    """Accuracy, proper scores and calibration, before and after a temperature fitted on held-out samples.

    Without them the samples are held out from one another, in folds. Where no temperature is the best one for
    samples that it is fitted on, those of all of them, and what is scaled by it, are NaN.
    """
    logits, labels = map(jnp.asarray, (predictor.map(outputs, samples.inputs), samples.labels))
    bins = calibration.confidence_bins(logits, labels)
    values: dict[str, Any] = {
        "accuracy": accuracy_of(logits, labels),
        "nll": calibration.negative_log_likelihood(logits, labels).mean(),
        "brier": calibration.brier_score(logits, labels).mean(),
        "ece": calibration.expected_calibration_error(bins),
        "ece_signed": calibration.signed_calibration_error(bins),
        "ece_adaptive": calibration.adaptive_calibration_error(logits, labels),
        "ece_classwise": calibration.classwise_calibration_error(calibration.classwise_bins(logits, labels)),
        "ece_maximum": calibration.maximum_calibration_error(bins),
    }
    if held_out is not None:
        fitted_on = jnp.asarray(predictor.map(outputs, held_out.inputs))
        temperature = calibration.fit_temperature(fitted_on, jnp.asarray(held_out.labels))
        temperatures = jnp.full(len(labels), temperature)
    else:
        folds = np.arange(len(labels)) % TEMPERATURE_FOLDS
        others = [np.flatnonzero(folds != fold) for fold in range(TEMPERATURE_FOLDS)]
        temperatures = jnp.stack([calibration.fit_temperature(logits[of], labels[of]) for of in others])[folds]
    scaled = logits / temperatures[:, None]
    values |= {
        "temperature": temperatures.mean(),
        "nll_scaled": calibration.negative_log_likelihood(scaled, labels).mean(),
        "ece_scaled": ece_of(scaled, labels),
    }
    settings = {
        "samples": len(labels),
        "standard error of the accuracy": (values["accuracy"] * (1 - values["accuracy"]) / len(labels)) ** 0.5,
        "temperature": "fitted on the validation split"
        if held_out
        else f"of each {TEMPERATURE_FOLDS}th sample fitted on all others",
    }
    summed = {name: np.asarray(column).tolist() for name, column in bins._asdict().items()}
    return Section({key: float(value) for key, value in values.items()}, settings, {"bins": summed})


def training(predictor: Predictor, samples: Samples) -> Section:
    """Measures accuracy on the training samples: whether the network fits them."""
    samples = samples.first(NUM_TRAINED)
    logits = jnp.asarray(predictor.map(outputs, samples.inputs))
    accuracy = accuracy_of(logits, jnp.asarray(samples.labels))
    return Section({"train_accuracy": accuracy}, {"samples": len(samples.labels)}, {})


def rescaled(predictor: Predictor, samples: Samples, *, alpha: float) -> Section:
    """Measures accuracy, NLL and ECE with and without Mixup's test-time correction, and with each half of it."""
    wraps: dict[str, Wrap | None] = {"plain": None}
    wraps |= {halves.title: Rescaling(alpha, halves) for halves in RESCALINGS.values()}
    table, labels = {}, jnp.asarray(samples.labels)
    for title, wrap in wraps.items():
        logits = jnp.asarray(predictor.wrapped(wrap).map(outputs, samples.inputs))
        nll = float(calibration.negative_log_likelihood(logits, labels).mean())
        table[title] = {"accuracy": accuracy_of(logits, labels), "nll": nll, "ece": ece_of(logits, labels)}
    theta = float(regularization.theta_moments(alpha)[0])
    settings = {"samples": len(labels), "alpha": alpha, "mean of theta": theta}
    values = {f"{key}_rescaled": value for key, value in table["rescaled"].items()}
    return Section(values, settings, {"rescaling": table})


def embedding(predictor: Predictor, samples: Samples, class_names: tuple[str, ...] = ()) -> Section:
    """Alignment and uniformity, and the plane of the two principal components."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(samples.labels))[:NUM_EMBEDDED])
    features, labels = jnp.asarray(predictor.map(embedded, samples.inputs[chosen])), samples.labels[chosen]
    values = {
        "alignment": float(embeddings.alignment(features, jnp.asarray(labels))),
        "uniformity": float(embeddings.uniformity(features)),
    }
    details = {
        "points": np.asarray(embeddings.principal_components(features)),
        "labels": labels,
        "class_names": class_names,
    }
    return Section(values, {"samples": len(chosen), "seed": SEED}, details)


def out_of_distribution(predictor: Predictor, samples: Samples, outside: dict[str, np.ndarray]) -> Section:
    """How well scores tell test samples from others, by set and score."""
    scores = {"probability": ood.max_probability, "logit": ood.max_logit, "energy": ood.energy}
    inside = jnp.asarray(predictor.map(outputs, samples.inputs))
    table: dict[str, dict[str, dict[str, float]]] = {}
    confidences = {"test": np.asarray(ood.max_probability(inside))}
    for other, images in outside.items():
        logits = jnp.asarray(predictor.map(outputs, images))
        confidences[other] = np.asarray(ood.max_probability(logits))
        table[other] = {}
        for name, score in scores.items():
            detection = ood.detection(score(inside), score(logits))
            table[other][name] = {key: float(value) for key, value in detection._asdict().items()}
    first = next(iter(table))
    settings = {"samples": len(inside), "against": {name: len(images) for name, images in outside.items()}}
    values = {"auroc": table[first]["probability"]["auroc"]}
    return Section(values, settings, {"detection": table, "confidences": confidences})
