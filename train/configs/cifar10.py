"""Mixup on CIFAR-10 with PreAct ResNet-18.

Command: python -m train.main --config=train/configs/cifar10.py
    Prepare the data before: python -m train.prepare cifar10
Hardware: one GPU, or a TPU of 8 cores.
Result: not yet run
"""

from train.config import Config, Data, Mix, Model, Optimizer


def get_config() -> Config:
    """SGD with a cosine schedule."""
    return Config(
        data=Data(name="cifar10", augmentation="pad_crop,flip"),
        model=Model(name="preact_resnet18"),
        mix=Mix("mixup(alpha=1.0)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=5e-4),
        num_epochs=200,
        checkpoint_steps=2000,
    )
