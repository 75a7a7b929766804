"""VarMixup on 5,000 training images of Fashion-MNIST, five seeds.

Command: python -m train.compare --config=train/configs/compare_varmixup.py
    Prepare the data before: python -m train.prepare fashion_mnist
    Train the VAE before: python -m train.vae --config=train/configs/vae_fashion_5000.py --workdir=runs/vae_fashion_5000
Hardware: 2 CPU cores.
Result: ERM 85.73 %, Mixup 85.89 %, VarMixup 74.21 %; under corruptions 66.36, 75.51 and 62.83 %; all of it in the
    results. About 80 s a run and 60 s its evaluation on one core (jax 0.10.2, 2026-11-23).
"""

from train.comparing.design import ALPHA, Claim, Comparison
from train.config import Config, Data, Mix, Model

VARMIXUP = "VarMixup (arXiv:2003.06566)"

VAE = "runs/vae_fashion_5000"  # one for all seeds, of the training images of seed 0


def get_comparison() -> Comparison:
    """A small CNN, twenty epochs; 3,000 further images choose alpha."""
    base = Config(
        data=Data(name="fashion_mnist", num_train=5000, num_validation=3000),
        model=Model(width=16),
        num_epochs=20,
    )
    transport = "transport(k=8, solver='exact')"
    varmixup = {
        "mixup of reconstructions": Mix(f"reconstructed(mixup(alpha={ALPHA}))", vae=VAE),
        "varmixup": Mix(f"varmixup(alpha={ALPHA})", vae=VAE),
        "varmixup k=8": Mix(f"varmixup(pairing={transport}, alpha={ALPHA})", vae=VAE),
    }
    latents = ("varmixup", "varmixup k=8")
    return Comparison(
        datasets={"fashion_mnist_5000_images": base},
        methods={"erm": Mix("erm"), "mixup": Mix(f"mixup(alpha={ALPHA})"), **varmixup},
        alphas=(0.2, 1.0, 4.0),
        num_seeds=5,
        num_selection_seeds=1,
        measures=(
            "accuracy",
            "nll",
            "ece",
            "ece_signed",
            "ece_scaled",
            "corrupted_accuracy",
            "fgsm_accuracy",
            "pgd_accuracy",
            "linearity_gap",
            "auroc",
            "alignment",
            "uniformity",
        ),
        limit=500,
        claims=(
            Claim(VARMIXUP, "is more robust to corruptions", "corrupted_accuracy", latents, "mixup"),
            Claim(VARMIXUP, "is better calibrated", "ece", latents, "mixup"),
            Claim(VARMIXUP, "makes the loss locally more linear", "linearity_gap", latents, "mixup"),
        ),
        by_corruption=("erm", "mixup", *varmixup),
        shown=("accuracy", "nll", "ece", "corrupted_accuracy", "fgsm_accuracy", "linearity_gap", "auroc"),
    )
