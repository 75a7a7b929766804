"""The figures of an evaluation."""

from collections.abc import Callable
import pathlib

import numpy as np

from train.measuring.sections import Section
from train.running.figures import BLUE, ORANGE, class_name, figure

# Okabe and Ito's colours, told apart by the colour-blind, and two grays.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000", "#999999", "#8B4513")


def draw_reliability(section: Section, title: str, path: pathlib.Path) -> None:
    """Accuracy by confidence over the bins, and how many samples each bin holds."""
    bins = {name: np.array(column) for name, column in section.details["bins"].items()}
    num_bins = len(bins["total"])
    used = bins["total"] > 0
    confidence, accuracy = (bins[name][used] / bins["total"][used] for name in ("confidence", "correct"))
    centres = (np.arange(num_bins) + 0.5) / num_bins
    drawn = figure(4.6, 5.6)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(centres[used], accuracy, 0.9 / num_bins, color=BLUE, label="accuracy")
    above.plot((0, 1), (0, 1), color="black", linewidth=1, label="calibrated")
    above.plot(confidence, accuracy, "o", markersize=4, color=ORANGE, clip_on=False, label="at the mean confidence")
    above.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    drawn.suptitle(f"{title}\nECE {section.values['ece']:.4f}", fontsize=9)
    above.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))  # no bar is there
    below.bar(centres, bins["total"] / bins["total"].sum(), 0.9 / num_bins, color="#999999")
    below.set(xlabel="confidence", ylabel="share of samples", ylim=(0, None))
    _save(drawn, path)


def draw_corruptions(section: Section, title: str, path: pathlib.Path) -> None:
    """A map of accuracy by corruption and severity."""
    table = section.details["accuracy"]
    values = 100 * np.array(list(table.values()))
    drawn = figure(5.2, 0.34 * len(table) + 1.3)
    axes = drawn.subplots()
    shown = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(values.shape):
        light = values[row, column] < 55
        axes.text(
            column,
            row,
            f"{values[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if light else "black",
        )
    axes.set_xticks(range(values.shape[1]), range(1, values.shape[1] + 1))
    axes.set_yticks(range(len(table)), [name.replace("_", " ") for name in table], fontsize=8)
    axes.set_xlabel("severity")
    axes.set_title(title, fontsize=9)
    drawn.colorbar(shown, label="accuracy (%)")
    drawn.savefig(path, dpi=120)


def draw_attacks(section: Section, title: str, path: pathlib.Path) -> None:
    """Accuracy by epsilon."""
    table = section.details["accuracy"]
    drawn = figure(4.8, 3.6)
    axes = drawn.subplots()
    for name, colour, style in (("fgsm", BLUE, "o-"), ("pgd", ORANGE, "s--")):
        axes.plot(
            (0, *section.details["epsilons"]),
            100 * np.array([*table["clean"], *table[name]]),
            style,
            color=colour,
            label=name.upper(),
        )
    axes.set(xlabel="epsilon (of 255, maximum norm)", ylabel="accuracy (%)", ylim=(0, 100))
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, loc="lower left")
    _save(drawn, path)


def draw_confidences(section: Section, title: str, path: pathlib.Path) -> None:
    """Histograms of the largest probability, of test samples and of others."""
    confidences = section.details["confidences"]
    drawn = figure(5.2, 1.5 * len(confidences) + 0.9)
    for axes, (name, values), colour in zip(
        drawn.subplots(len(confidences), 1, sharex=True), confidences.items(), COLOURS, strict=False
    ):
        share = np.full(len(values), 100 / len(values))
        axes.hist(values, bins=30, range=(0, 1), weights=share, color=colour)
        axes.set(ylabel="samples (%)", xlim=(0, 1))
        axes.set_title(name, loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("largest probability")
    drawn.suptitle(title, fontsize=9)
    drawn.savefig(path, dpi=120)


def draw_embedding(section: Section, title: str, path: pathlib.Path) -> None:
    """The plane of the two principal components, coloured by class; the first ten classes."""
    points, labels, names = (section.details[key] for key in ("points", "labels", "class_names"))
    drawn = figure(5.6, 4.6)
    axes = drawn.subplots()
    for label, colour in zip(np.unique(labels)[:10], COLOURS, strict=False):
        x, y = points[labels == label][:300].T
        axes.scatter(x, y, s=8, color=colour, label=class_name(names, label, 24), linewidths=0)
    axes.set(xlabel="first principal component", ylabel="second")
    axes.legend(title="class", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    values = section.values
    axes.set_title(f"{title}\nalignment {values['alignment']:.3f}, uniformity {values['uniformity']:.3f}", fontsize=9)
    _save(drawn, path)


def _save(drawn, path: pathlib.Path) -> None:
    for axes in drawn.axes:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=120)


FIGURES: dict[str, Callable[[Section, str, pathlib.Path], None]] = {
    "calibration": draw_reliability,
    "corruptions": draw_corruptions,
    "released": draw_corruptions,
    "attacks": draw_attacks,
    "ood": draw_confidences,
    "embeddings": draw_embedding,
}
