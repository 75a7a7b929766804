"""A VAE of scikit-learn's digits.

Command: python -m train.vae --config=train/configs/vae_digits.py
Hardware: 2 CPU cores.
Result: not yet run
"""

from train.config import Autoencoder, VaeConfig


def get_vae() -> VaeConfig:
    """Small images, small latents."""
    return VaeConfig(vae=Autoencoder(latent_size=16, widths=(32, 64)), num_epochs=40)
