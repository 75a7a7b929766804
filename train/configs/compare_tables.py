"""k-mixup on three tables of scikit-learn, ten seeds.

Command: python -m train.compare --config=train/configs/compare_tables.py
Hardware: 2 CPU cores.
Result: in the results. Twelve minutes on two busy cores (jax 0.10.2, 2026-11-23).
"""

from train.comparing.design import ALPHA, Claim, Comparison
from train.config import Config, Data, Mix, Model, Optimizer


def get_comparison() -> Comparison:
    """A small MLP; a fifth of each table is tested on, and the seed chooses who of the rest validates."""
    datasets = {
        name: Config(
            data=Data(name=name, num_validation=held_out, batch_size=32),
            model=Model(name="mlp", width=64),
            optimizer=Optimizer(learning_rate=1e-2),
            num_epochs=num_epochs,
        )
        for name, held_out, num_epochs in (("iris", 24, 100), ("wine", 24, 100), ("breast_cancer", 91, 40))
    }
    kmixup = {f"kmixup k={k}": Mix(f"kmixup(k={k}, solver='exact', alpha={ALPHA})") for k in (1, 4, 16)}
    return Comparison(
        datasets=datasets,
        methods={"erm": Mix("erm"), **kmixup},
        alphas=(0.2, 1.0, 4.0),
        num_seeds=10,
        num_selection_seeds=3,
        measures=("accuracy", "nll", "ece"),
        claims=(
            Claim(
                "k-mixup (arXiv:2106.02933)",
                "generalizes better than Mixup (k = 1)",
                "accuracy",
                ("kmixup k=4", "kmixup k=16"),
                "kmixup k=1",
            ),
        ),
    )
