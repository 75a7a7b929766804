"""Sections on corruptions, attacks and linearity between samples; see train.measuring.sections."""

from collections.abc import Iterable
from typing import Any

from jax import Array
import jax.numpy as jnp
import numpy as np

from jaxmix.evaluation import attacks, calibration, corruptions, linearity
from train.learning.steps import pixels
from train.measuring import others
from train.measuring.measures import LINEARITY_EPSILON, LINEARITY_STEPS, PGD_STEPS
from train.measuring.others import SEVERITIES
from train.measuring.predictor import Maps, Predictor
from train.measuring.sections import (
    EPSILONS,
    PROBABILITIES,
    SEED,
    ZERO_GRADIENTS,
    Samples,
    Section,
    accuracy_of,
    ece_of,
    keys,
    outputs,
)


def corrupted(predictor: Predictor, samples: Samples) -> Section:
    """Accuracy by corruption and severity, images rounded to 8 bits as released sets are."""
    table: dict[str, list[float]] = {}
    errors, labels = [], jnp.asarray(samples.labels)
    for name in corruptions.CORRUPTIONS:
        table[name] = []
        for severity in SEVERITIES:
            images = corrupt(predictor, samples.inputs, name, severity)
            logits = jnp.asarray(predictor.map(outputs, images))
            table[name].append(accuracy_of(logits, labels))
            errors.append(ece_of(logits, labels))
    values = {"corrupted_accuracy": float(np.mean(list(table.values()))), "corrupted_ece": float(np.mean(errors))}
    settings = {"set": "jaxmix-C", "samples": len(samples.labels), "severities": SEVERITIES, "seed": SEED}
    return Section(values, settings, {"accuracy": table, "severities": SEVERITIES})


def corrupt(predictor: Predictor, images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Images [n, h, w, c] uint8 as a corruption leaves them, uint8."""
    indices = np.arange(len(images), dtype=np.int32)
    if name in corruptions.ON_HOST:
        rng = corruptions.keys(jnp.asarray(indices), corruption=name, severity=severity, seed=SEED)
        return rounded(
            np.asarray(corruptions.CORRUPTIONS[name](images.astype(np.float32) / 255, rng, severity=severity))
        )
    return predictor.map(_corrupt, images, indices, name=name, severity=severity)


def released(predictor: Predictor, sets: Iterable[others.Corrupted]) -> Section:
    """Accuracy on corrupted sets as released, by corruption and severity."""
    table: dict[str, list[float]] = {}
    num_samples = 0
    for name, images, labels in sets:
        table.setdefault(name, []).append(accuracy_of(predictor.map(outputs, images), jnp.asarray(labels)))
        num_samples = len(labels)
    counted = [name for name in others.RELEASED if name in table]
    missing = [name for name in others.RELEASED if name not in table]
    # The mean is of all fifteen or it is not given: fewer would not compare with anything.
    error = {} if missing else {"mean_corruption_error_unnormalised": 1 - float(np.mean([table[n] for n in counted]))}
    settings = {"samples of each severity": num_samples, "missing for the mean": missing}
    return Section(error, settings, {"accuracy": table, "severities": others.SEVERITIES})


def _corrupt(maps: Maps, images: Array, indices: Array, *, name: str, severity: int) -> Array:
    del maps
    rng = corruptions.keys(indices, corruption=name, severity=severity, seed=SEED)
    return rounded(corruptions.CORRUPTIONS[name](pixels(images), rng, severity=severity))


def rounded(images: Any) -> Any:
    """[0, 1] -> uint8."""
    return (images * 255 + 0.5).astype(np.uint8)


def attacked(predictor: Predictor, samples: Samples, epsilons: tuple[int, ...] = ()) -> Section:
    """Accuracy under FGSM and PGD by epsilon, all of EPSILONS where empty; what is wrong before counts as wrong."""
    epsilons = epsilons or EPSILONS
    indices = np.arange(len(samples.labels), dtype=np.int32)
    logits = predictor.map(outputs, samples.inputs)
    before = logits.argmax(axis=-1) == samples.labels
    table: dict[str, list[float]] = {"fgsm": [], "pgd": []}
    for epsilon in epsilons:
        for name, attack in (("fgsm", _fgsm), ("pgd", _pgd)):
            after = predictor.map(attack, samples.inputs, samples.labels, indices, parameters=np.float32(epsilon / 255))
            table[name].append(float(np.mean(before & after)))
    doubts = predictor.map(_diagnose, samples.inputs, samples.labels)
    settings = {
        "norm": "l_inf",
        "samples": len(indices),
        "epsilons": [f"{epsilon}/255" for epsilon in epsilons],
        "pgd": f"{PGD_STEPS} steps of 2.5 epsilon / {PGD_STEPS}, one random start",
        ZERO_GRADIENTS: float(doubts.zero_gradient.mean()),
        PROBABILITIES: bool(doubts.probabilities.all()),
    }
    values = {
        f"{name}_accuracy{'' if epsilon == EPSILONS[-1] else f'_{epsilon}'}": accuracy
        for name, accuracies in table.items()
        for epsilon, accuracy in zip(epsilons, accuracies, strict=True)
    }
    table["clean"] = [float(before.mean())]
    return Section(values, settings, {"accuracy": table, "epsilons": epsilons})


def _fgsm(maps: Maps, inputs: Array, labels: Array, indices: Array, epsilon: Array) -> Array:
    del indices
    moved = attacks.fgsm(pixels(inputs), labels, predict=maps.logits, epsilon=epsilon)
    return jnp.argmax(maps.logits(moved), axis=-1) == labels


def _pgd(maps: Maps, inputs: Array, labels: Array, indices: Array, epsilon: Array) -> Array:
    moved = attacks.pgd(
        pixels(inputs), labels, keys(indices), predict=maps.logits, epsilon=epsilon, num_steps=PGD_STEPS
    )
    return jnp.argmax(maps.logits(moved), axis=-1) == labels


def _diagnose(maps: Maps, inputs: Array, labels: Array) -> attacks.Diagnosis:
    return attacks.diagnose(pixels(inputs), labels, predict=maps.logits)


def linear(predictor: Predictor, samples: Samples) -> Section:
    """How far the loss is from linear around the samples."""
    indices = np.arange(len(samples.labels), dtype=np.int32)
    gaps = predictor.map(_gap, samples.inputs, samples.labels, indices)
    settings = {"samples": len(indices), "epsilon": f"{LINEARITY_EPSILON}/255", "steps": LINEARITY_STEPS, "seed": SEED}
    return Section({"linearity_gap": float(gaps.mean())}, settings, {})


def _gap(maps: Maps, inputs: Array, labels: Array, indices: Array) -> Array:
    return linearity.gap(
        pixels(inputs),
        keys(indices),
        loss=lambda moved: calibration.negative_log_likelihood(maps.logits(moved), labels),
        epsilon=LINEARITY_EPSILON / 255,
        num_steps=LINEARITY_STEPS,
    )
