"""Mixup's test-time transformation, and its second-order loss, on 5,000 training images of Fashion-MNIST, five seeds.

The second-order loss omits the term of second derivatives. It shows the network contracted images only, so read its
rescaled rows.

Command: python -m train.compare --config=train/configs/compare_rescaling.py
    Prepare the data before: python -m train.prepare fashion_mnist
Hardware: 2 CPU cores.
Result: drawing logits apart lowers the ECE to .008 to .011 at the same accuracy, contracting inputs costs .2 to .7
    points; all of it in the results. A run takes about 80 s on one core, of the second-order loss 190 s (jax 0.10.2,
    2026-11-23).
"""

import dataclasses

from train.comparing.design import Claim, Comparison
from train.config import Mix
from train.configs import compare_varmixup

PAPER = "On Mixup Regularization (arXiv:2006.06049) rescaling at test time"


def get_comparison() -> Comparison:
    """The training of compare_varmixup at three alphas, measured plain, with either half of the rescaling and both."""
    alphas = (0.2, 0.4, 1.0)
    mixup = {f"mixup {alpha:g}": Mix(f"mixup(alpha={alpha})") for alpha in alphas}
    second_order = {"second order 0.4": Mix("approximate_mixup(alpha=0.4)")}
    claims = [
        Claim(PAPER, text, measure, (f"{method}, rescaled",), method)
        for text, measure in (("improves accuracy", "accuracy"), ("improves calibration", "ece"))
        for method in mixup
    ]
    return dataclasses.replace(
        compare_varmixup.get_comparison(),
        methods={"erm": Mix("erm"), **mixup, **second_order},
        alphas=(),
        rescalings=("inputs", "outputs", "both"),
        measures=("accuracy", "nll", "ece", "ece_signed"),
        limit=0,
        claims=tuple(claims),
        by_corruption=(),
        shown=(),
    )
