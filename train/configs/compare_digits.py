"""Methods on scikit-learn's digits, three seeds: the shortest comparison.

Command: python -m train.compare
Hardware: 2 CPU cores.
Result: in the results; a few minutes on one core (jax 0.10.2, 2026-11-23).
"""

from train.comparing.design import ALPHA, Claim, Comparison
from train.config import Config, Data, Mix, Model


def get_comparison() -> Comparison:
    """A small CNN, twenty epochs on 500 images; 200 further ones choose alpha."""
    base = Config(data=Data(num_train=500, num_validation=200), model=Model(width=16), num_epochs=20)
    return Comparison(
        datasets={"digits": base},
        methods={
            "erm": Mix("erm"),
            "mixup": Mix(f"mixup(alpha={ALPHA})"),
            "kmixup k=8": Mix(f"kmixup(k=8, solver='exact', alpha={ALPHA})"),
        },
        alphas=(0.2, 1.0),
        num_seeds=3,
        num_selection_seeds=1,
        measures=("accuracy", "nll", "ece", "corrupted_accuracy"),
        claims=(Claim("Mixup (arXiv:1710.09412)", "improves generalization", "accuracy", ("mixup",), "erm"),),
    )
