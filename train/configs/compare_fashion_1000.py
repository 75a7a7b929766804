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


def get_comparison() -> Comparison:
    """A small CNN, a hundred epochs; 3,000 further images choose alpha."""
    data = Data(name="fashion_mnist", num_train=1000, num_validation=3000)
    return few_images("fashion_mnist_1000_images", data, num_seeds=3, epsilon=4)


def few_images(title: str, data: Data, *, num_seeds: int, epsilon: int) -> Comparison:
    """Methods on so few images that a small CNN fits them in a hundred epochs.

    Args:
      title: of the data.
      data: with images to choose alpha by.
      num_seeds: of measured runs.
      epsilon: of the attacks, of 255.
    """
    fgsm, pgd = f"fgsm_accuracy_{epsilon}", f"pgd_accuracy_{epsilon}"
    shown = ("train_accuracy", "accuracy", "nll", "ece", "ece_scaled", "corrupted_accuracy", fgsm)
    kmixup = {f"kmixup k={k}": Mix(f"kmixup(k={k}, solver='exact', alpha={ALPHA})") for k in (4, 16)}
    return Comparison(
        datasets={title: Config(data=data, model=Model(width=16), num_epochs=100, eval_epochs=100)},
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
        num_seeds=num_seeds,
        num_selection_seeds=1,
        measures=(*shown, pgd, "linearity_gap", "auroc", "alignment", "uniformity"),
        shown=(*shown, "auroc"),
        limit=500,
        claims=claims(tuple(kmixup), epsilon=epsilon),
    )


def claims(kmixup: tuple[str, ...], *, epsilon: int) -> tuple[Claim, ...]:
    """What the abstracts say of the methods above.

    Args:
      kmixup: the rows of k-mixup.
      epsilon: of the attacks, of 255.
    """
    fgsm = f"fgsm_accuracy_{epsilon}"
    return (
        Claim(MIXUP, "improves generalization", "accuracy", ("mixup",), "erm"),
        Claim(MIXUP, "increases robustness to adversarial examples", fgsm, ("mixup",), "erm"),
        Claim(CUTMIX, "improves classification", "accuracy", ("cutmix",), "erm"),
        Claim(CUTMIX, "improves robustness to corruptions", "corrupted_accuracy", ("cutmix",), "erm"),
        Claim(CUTMIX, "improves out-of-distribution detection", "auroc", ("cutmix",), "erm"),
        Claim(KMIXUP, "generalizes better than Mixup", "accuracy", kmixup, "mixup"),
        Claim(KMIXUP, "is more robust than Mixup", "corrupted_accuracy", kmixup, "mixup"),
        Claim(HMIX, "surpass Mixup", "accuracy", ("hmix", "gmix"), "mixup"),
        Claim(HMIX, "surpass CutMix", "accuracy", ("hmix", "gmix"), "cutmix"),
        Claim(MULTIMIX, "improves over other mixup methods", "accuracy", ("multimix",), "mixup"),
        Claim(MULTIMIX, "clusters classes more tightly", "alignment", ("multimix",), "mixup"),
        Claim(MULTIMIX, "spreads embeddings more uniformly", "uniformity", ("multimix",), "mixup"),
    )
