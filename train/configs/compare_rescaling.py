"""Mixup's test-time transformation on 1,000 training images of Fashion-MNIST, ten seeds.

`linearized_mixup` trains on contracted images only, so its rows are to be read rescaled.

Command: python -m train.compare --config=train/configs/compare_rescaling.py
        --results=train/results/compare_rescaling.json
    Prepare the data before: python -m train.prepare fashion_mnist
Hardware: 2 CPU cores.
Result: rescaling costs Mixup at alpha 1 1.9 points of accuracy, and gives linearized_mixup 1.4 points, to 80.18 %; ERM
    79.06 %, Mixup 79.3 to 79.6 %. All of it in the results. About 40 s a run on one core, of linearized_mixup 85 s
    (jax 0.10.2, 2026-11-29).
"""

import dataclasses

from train.comparing.design import Claim, Comparison
from train.config import Mix
from train.configs import compare_fashion_1000

PAPER = "On Mixup Regularization (arXiv:2006.06049) rescaling at test time"


def get_comparison() -> Comparison:
    """The training of compare_fashion_1000 at fixed alphas, measured plain, and rescaled by halves and in whole."""
    mixup = {f"mixup {alpha:g}": Mix(f"mixup(alpha={alpha})") for alpha in (0.2, 0.4, 1.0)}
    linearized = {f"linearized {alpha:g}": Mix(f"linearized_mixup(alpha={alpha})") for alpha in (0.4, 1.0)}
    return dataclasses.replace(
        compare_fashion_1000.get_comparison(),
        methods={"erm": Mix("erm"), **mixup, **linearized},
        alphas=(),
        num_seeds=10,
        rescalings=("inputs", "outputs", "both"),
        measures=("accuracy", "nll", "ece", "ece_signed"),
        shown=(),
        limit=0,
        claims=tuple(
            Claim(PAPER, text, measure, (f"{method}, rescaled",), method)
            for text, measure in (("improves accuracy", "accuracy"), ("improves calibration", "ece"))
            for method in mixup
        ),
    )
