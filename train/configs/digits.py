"""k-mixup on scikit-learn's handwritten digits: 1,437 training images of 8 x 8.

Command: python -m train.main
Hardware: 2 CPU cores.
Result: test accuracy 99.17 / 99.17 / 98.89 % with seeds 0 / 1 / 2, 70 s each (jax 0.10.2, 2026-11-27).
"""

from train.config import Config


def get_config() -> Config:
    """The default of python -m train.main."""
    return Config()
