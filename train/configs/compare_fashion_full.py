"""Methods on all of Fashion-MNIST by PreAct ResNet-18, three seeds.

Command: python -m train.compare --config=train/configs/compare_fashion_full.py
    Prepare the data before: python -m train.prepare fashion_mnist
    Train the VAE before, as compare_fashion.py says.
Hardware: one GPU.
Result: not yet run.
"""

import dataclasses

from train.comparing.design import Comparison
from train.config import Config, Data, Model, Optimizer
from train.configs import compare_fashion


def get_comparison() -> Comparison:
    """The methods, measures and claims of compare_fashion; thirty epochs on 55,000 images, alpha by the other 5,000."""
    base = Config(
        data=Data(name="fashion_mnist", num_validation=5000, augmentation="pad_crop,flip"),
        model=Model(name="preact_resnet18"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        num_epochs=30,
    )
    return dataclasses.replace(compare_fashion.get_comparison(), datasets={"fashion_mnist": base}, num_seeds=3, limit=0)
