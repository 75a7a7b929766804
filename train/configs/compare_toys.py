"""k-mixup on three toy sets of clusters and manifolds in the plane, ten seeds.

Command: python -m train.compare --config=train/configs/compare_toys.py
Hardware: 2 CPU cores.
Result: on swiss_roll k-mixup (k = 16) reaches 76.46 %, Mixup 72.38 %, ERM 77.07 %; all of it in the results.
    Some 200 runs of about 3 s on one core (jax 0.10.2, 2026-11-23).
"""

from train.comparing.design import ALPHA, Claim, Comparison
from train.config import Config, Data, Mix, Model, Optimizer

KMIXUP = "k-mixup (arXiv:2106.02933)"


def get_comparison() -> Comparison:
    """A small MLP on 64 points of each set; 64 further points choose alpha; every seed draws other points."""
    datasets = {
        name: Config(
            data=Data(name=name, num_train=64, num_validation=64, batch_size=32),
            model=Model(name="mlp", width=64),
            optimizer=Optimizer(learning_rate=1e-2),
            num_epochs=200,
        )
        for name in ("one_ring", "four_bars", "swiss_roll")
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
                KMIXUP,
                "preserves cluster and manifold structures, so generalizes better than Mixup (k = 1)",
                "accuracy",
                ("kmixup k=4", "kmixup k=16"),
                "kmixup k=1",
            ),
        ),
    )
