"""A VAE of 5,000 training images of Fashion-MNIST, 500 of each class.

Command: python -m train.vae --config=train/configs/vae_fashion_5000.py --workdir=runs/vae_fashion_5000
    Prepare the data before: python -m train.prepare fashion_mnist (or add --config.data.manual_dir=FOLDER
    with the four original files).
Hardware: 2 CPU cores.
Result: squared error per test image 6.75; a classifier of clean images recognises 84.38 % of them and 80.18 % of their
    reconstructions; ten minutes (jax 0.10.2, 2026-11-23).
"""

from train.config import Data, VaeConfig


def get_vae() -> VaeConfig:
    """Those images that compare_varmixup trains on with seed 0."""
    return VaeConfig(data=Data(name="fashion_mnist", num_train=5000, num_validation=3000))
