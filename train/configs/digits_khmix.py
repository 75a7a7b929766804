"""k-HMix on scikit-learn's digits: boxes of the matched image, blended into their surroundings.

Command: python -m train.main --config=train/configs/digits_khmix.py
Hardware: 2 CPU cores.
Result: test accuracy 99.17 %, NLL .089, ECE .070, of 360 images (jax 0.10.2, 2026-11-23).
"""

from train.config import Config, Mix


def get_config() -> Config:
    """The default run with another method; any pairing goes with any mask."""
    return Config(mix=Mix("hmix(area_ratio=0.5, pairing=transport(k=8), alpha=1.0)"))
