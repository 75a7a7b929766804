"""Six methods over the amount of data: 250 to 16,000 training images of Fashion-MNIST, alpha 1, three seeds.

Command: python -m train.compare --config=train/configs/compare_sizes.py --results=train/results/compare_sizes.json
    Prepare the data before: python -m train.prepare fashion_mnist
Hardware: 2 CPU cores.
Result: not yet run.
"""

from train.comparing.design import Comparison
from train.config import Config, Data, Mix, Model

EPOCHS = {250: 400, 1000: 100, 4000: 50, 16000: 30}  # by number of images


def get_comparison() -> Comparison:
    """Trains a small CNN, without tuning any method."""
    return Comparison(
        datasets={
            f"{size} images": Config(
                data=Data(name="fashion_mnist", num_train=size),
                model=Model(width=16),
                num_epochs=epochs,
                eval_epochs=epochs,
            )
            for size, epochs in EPOCHS.items()
        },
        methods={
            "erm": Mix("erm"),
            "mixup": Mix("mixup(alpha=1.0)"),
            "kmixup k=16": Mix("kmixup(k=16, solver='exact', alpha=1.0)"),
            "cutmix": Mix("cutmix(alpha=1.0)"),
            "hmix": Mix("hmix(alpha=1.0)"),
            "gmix": Mix("gmix(alpha=1.0)"),
        },
        alphas=(),
        num_seeds=3,
        num_selection_seeds=1,
        measures=("train_accuracy", "accuracy", "nll", "ece"),
    )
