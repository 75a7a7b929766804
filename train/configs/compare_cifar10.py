"""Methods on 2,000 training images of CIFAR-10, without other augmentation.

Command: python -m train.compare --config=train/configs/compare_cifar10.py
        --results=train/results/compare_cifar10.json
    Prepare the data before: python -m train.prepare cifar10
Hardware: 2 CPU cores.
Result: not yet run.
"""

from train.comparing.design import Comparison
from train.config import Data
from train.configs import compare_fashion_1000


def get_comparison() -> Comparison:
    """Uses the methods, measures and claims of compare_fashion_1000, with attacks of 1/255."""
    data = Data(name="cifar10", num_train=2000, num_validation=3000)
    return compare_fashion_1000.few_images("cifar10_2000_images", data, num_seeds=5, epsilon=1)
