"""Methods on 1,000 training images of Fashion-MNIST, where ERM fits its training set.

Command: python -m train.compare --config=train/configs/compare_fashion_1000.py
        --results=train/results/compare_fashion_1000.json
    Prepare the data before: python -m train.prepare fashion_mnist
Hardware: 2 CPU cores.
Result: ERM 79.27 %, Mixup 79.50, CutMix 81.17, either of them 81.07, HMix 80.36, GMix 80.23; all of it in the
    results. About 40 s a run and 40 s its evaluation on one core (jax 0.10.2, 2026-11-29).
"""

from train.comparing.design import ALPHA, Claim, Comparison
from train.config import Config, Data, Mix, Model

MIXUP, CUTMIX, KMIXUP = "Mixup (arXiv:1710.09412)", "CutMix (arXiv:1905.04899)", "k-mixup (arXiv:2106.02933)"
HMIX, MULTIMIX = "HMix and GMix (arXiv:2208.09913)", "MultiMix (arXiv:2311.05538)"

KS = (4, 16)


def get_comparison() -> Comparison:
    """A small CNN, a hundred epochs; 3,000 further images choose alpha."""
    base = Config(
        data=Data(name="fashion_mnist", num_train=1000, num_validation=3000),
        model=Model(width=16),
        num_epochs=100,
        eval_epochs=100,
    )
    kmixup = {f"kmixup k={k}": Mix(f"kmixup(k={k}, solver='exact', alpha={ALPHA})") for k in KS}
    return Comparison(
        datasets={"fashion_mnist_1000_images": base},
        methods={
            "erm": Mix("erm"),
            "mixup": Mix(f"mixup(alpha={ALPHA})"),
            "cutmix": Mix(f"cutmix(alpha={ALPHA})"),
            "mixup or cutmix": Mix(f"one_of(mixup(alpha={ALPHA}), cutmix(alpha={ALPHA}))"),
            **kmixup,
            "hmix": Mix(f"hmix(alpha={ALPHA})"),
            "gmix": Mix(f"gmix(alpha={ALPHA})"),
            "multimix": Mix(f"multimix(num_mixed=1000, alpha={ALPHA})", space="logits"),
        },
        alphas=(0.2, 1.0, 4.0),
        num_seeds=3,
        num_selection_seeds=1,
        measures=(
            "train_accuracy",
            "accuracy",
            "nll",
            "ece",
            "ece_scaled",
            "corrupted_accuracy",
            "fgsm_accuracy_4",
            "pgd_accuracy_4",
            "linearity_gap",
            "auroc",
            "alignment",
            "uniformity",
        ),
        shown=(
            "train_accuracy",
            "accuracy",
            "nll",
            "ece",
            "ece_scaled",
            "corrupted_accuracy",
            "fgsm_accuracy_4",
            "auroc",
        ),
        limit=500,
        claims=(
            Claim(MIXUP, "improves generalization", "accuracy", ("mixup",), "erm"),
            Claim(MIXUP, "increases robustness to adversarial examples", "fgsm_accuracy_4", ("mixup",), "erm"),
            Claim(CUTMIX, "improves classification", "accuracy", ("cutmix",), "erm"),
            Claim(CUTMIX, "improves robustness to corruptions", "corrupted_accuracy", ("cutmix",), "erm"),
            Claim(CUTMIX, "improves out-of-distribution detection", "auroc", ("cutmix",), "erm"),
            Claim(KMIXUP, "generalizes better than Mixup", "accuracy", tuple(kmixup), "mixup"),
            Claim(KMIXUP, "is more robust than Mixup", "corrupted_accuracy", tuple(kmixup), "mixup"),
            Claim(HMIX, "surpass Mixup", "accuracy", ("hmix", "gmix"), "mixup"),
            Claim(HMIX, "surpass CutMix", "accuracy", ("hmix", "gmix"), "cutmix"),
            Claim(MULTIMIX, "improves over other mixup methods", "accuracy", ("multimix",), "mixup"),
            Claim(MULTIMIX, "clusters classes more tightly", "alignment", ("multimix",), "mixup"),
            Claim(MULTIMIX, "spreads embeddings more uniformly", "uniformity", ("multimix",), "mixup"),
        ),
    )
