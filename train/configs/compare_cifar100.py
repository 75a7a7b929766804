"""Methods on CIFAR-100 with PreAct ResNet-18 in bfloat16: the benchmark of most papers, cut to thirty epochs.

Command: python -m train.compare --config=train/configs/compare_cifar100.py
    Prepare the data before: python -m train.prepare cifar100
Hardware: one GPU, or a TPU of 8 cores.
Result: not yet run.
"""

from train.comparing.design import Comparison
from train.config import Config, Data, Mix, Model, Optimizer
from train.configs.compare_fashion_1000 import claims


def get_comparison() -> Comparison:
    """Trains with SGD, crops and flips, and each method at one alpha, without tuning."""
    base = Config(
        data=Data(name="cifar100", augmentation="pad_crop,flip"),
        model=Model(name="preact_resnet18", dtype="bfloat16"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        num_epochs=30,
        eval_epochs=30,
    )
    shown = ("train_accuracy", "accuracy", "nll", "ece", "ece_scaled", "corrupted_accuracy", "fgsm_accuracy_1", "auroc")
    return Comparison(
        datasets={"cifar100": base},
        methods={
            "erm": Mix("erm"),
            "mixup": Mix("mixup(alpha=1.0)"),
            "cutmix": Mix("cutmix(alpha=1.0)"),
            "kmixup k=16": Mix("kmixup(k=16, alpha=1.0)"),
            "hmix": Mix("hmix(alpha=1.0)"),
            "gmix": Mix("gmix(alpha=1.0)"),
            "multimix": Mix("multimix(num_mixed=1000, alpha=1.0)", space="logits"),
        },
        alphas=(),
        num_seeds=3,
        num_selection_seeds=1,
        measures=(*shown, "pgd_accuracy_1", "linearity_gap", "alignment", "uniformity"),
        shown=shown,
        limit=1000,
        claims=claims(("kmixup k=16",), epsilon=1),
    )
