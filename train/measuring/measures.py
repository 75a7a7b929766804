"""The measures of a trained model: names, formats and definitions."""

from typing import NamedTuple

PGD_STEPS, LINEARITY_STEPS = 20, 10
LINEARITY_EPSILON = 4  # of 255
NUM_EMBEDDED = 4096
NUM_TRAINED = 10_000


class Measure(NamedTuple):
    """A number: its section, how it is called and printed, which way is better, what it is, at which epsilon."""

    section: str
    title: str
    form: str
    better: str
    definition: str
    epsilon: int = 0


class Halves(NamedTuple):
    """Which halves of Mixup's test-time transformation are taken, and what a row that took them is called."""

    title: str
    inputs: bool
    outputs: bool


RESCALINGS = {
    "inputs": Halves("input only", inputs=True, outputs=False),
    "outputs": Halves("output only", inputs=False, outputs=True),
    "both": Halves("rescaled", inputs=True, outputs=True),
}

MEASURES = {
    "accuracy": Measure(
        "calibration", "accuracy", ".2%", "higher", "share of samples whose largest logit is of their class"
    ),
    "nll": Measure("calibration", "NLL", ".4f", "lower", "mean minus log-probability of the class, nats"),
    "brier": Measure(
        "calibration", "Brier", ".4f", "lower", "mean of the squared distance of probabilities from the one-hot class"
    ),
    "ece": Measure(
        "calibration", "ECE", ".4f", "lower", "expected calibration error, 15 right-closed bins of equal width"
    ),
    "ece_signed": Measure(
        "calibration", "signed ECE", "+.4f", "none", "mean confidence minus accuracy; above 0: over-confident"
    ),
    "ece_adaptive": Measure(
        "calibration", "adaptive ECE", ".4f", "lower", "the same as ECE over 15 bins of equal mass"
    ),
    "ece_classwise": Measure(
        "calibration", "classwise ECE", ".4f", "lower", "ECE of each class against the rest, mean over classes"
    ),
    "ece_maximum": Measure(
        "calibration", "maximum CE", ".4f", "lower", "largest gap of confidence and accuracy of any of the 15 bins"
    ),
    "temperature": Measure(
        "calibration", "temperature", ".3f", "none", "that divides logits for the lowest NLL on held-out samples"
    ),
    "nll_scaled": Measure(
        "calibration", "NLL, scaled", ".4f", "lower", "NLL after division of logits by the temperature"
    ),
    "ece_scaled": Measure(
        "calibration", "ECE, scaled", ".4f", "lower", "ECE after division of logits by the temperature"
    ),
    "train_accuracy": Measure(
        "training",
        "train acc.",
        ".2%",
        "none",
        f"accuracy on training samples, neither augmented nor mixed, {NUM_TRAINED} at most",
    ),
    "accuracy_rescaled": Measure(
        "rescaling", "accuracy, rescaled", ".2%", "higher", "accuracy after Mixup's test-time transformation"
    ),
    "nll_rescaled": Measure("rescaling", "NLL, rescaled", ".4f", "lower", "NLL after that transformation"),
    "ece_rescaled": Measure("rescaling", "ECE, rescaled", ".4f", "lower", "ECE after that transformation"),
    "corrupted_accuracy": Measure(
        "corruptions", "corrupted acc.", ".2%", "higher", "mean accuracy over jaxmix-C: 14 corruptions, 5 severities"
    ),
    "corrupted_ece": Measure(
        "corruptions", "corrupted ECE", ".4f", "lower", "mean ECE over jaxmix-C: 14 corruptions, 5 severities"
    ),
    **{
        f"{name}_accuracy{suffix}": Measure(
            "attacks",
            f"{name.upper()}{title} acc.",
            ".2%",
            "higher",
            f"accuracy under {name.upper()}, l_inf, epsilon {epsilon}/255{steps}",
            epsilon,
        )
        for name, steps in (("fgsm", ""), ("pgd", f", {PGD_STEPS} steps, a random start"))
        for epsilon, suffix, title in (
            (1, "_1", " 1/255"),
            (2, "_2", " 2/255"),
            (4, "_4", " 4/255"),
            (8, "", ""),
        )
    },
    "linearity_gap": Measure(
        "linearity",
        "linearity gap",
        ".4f",
        "lower",
        f"mean over samples of max |l(x + d) - l(x) - d . grad l(x)|, l the NLL, l_inf, "
        f"epsilon {LINEARITY_EPSILON}/255, {LINEARITY_STEPS} steps",
    ),
    "alignment": Measure(
        "embeddings",
        "alignment",
        ".4f",
        "lower",
        f"mean squared distance of same-class embeddings, l2-normalised, {NUM_EMBEDDED} at most",
    ),
    "uniformity": Measure(
        "embeddings",
        "uniformity",
        ".4f",
        "lower",
        f"log mean exp(-2 squared distance) of those embeddings, {NUM_EMBEDDED} at most",
    ),
    "mean_corruption_error_unnormalised": Measure(
        "released",
        "CIFAR-C error",
        ".2%",
        "lower",
        "mean error over the released corruptions that count, and 5 severities",
    ),
    "auroc": Measure(
        "ood",
        "AUROC",
        ".4f",
        "higher",
        "of test samples against the first of the other sets, by the largest probability",
    ),
}
