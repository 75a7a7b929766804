"""The recipe of the k-mixup authors' released code: CIFAR-10, PreAct ResNet-18, alpha = 10, k = 16.

Like that code: batch size 512, 200 epochs, SGD with a learning rate of 0.1 that is divided by 10
after epochs 100 and 150, no batch norm and ReLU before the pooling, one ratio per batch. Unlike
that code: transport matches a group with another group, never with part of itself, by squared
distance; each device draws its own ratio and mixes its own share of the batch.

Command: python -m train.main --config=train/configs/cifar10_kmixup.py
    Prepare the data before: python -m train.prepare cifar10
Hardware: one GPU, or a TPU of 8 cores.
Result: not yet run
"""

from train.config import Config, Data, Mix, Model, Optimizer


def get_config() -> Config:
    """Everything that the released code fixes."""
    return Config(
        data=Data(
            name="cifar10",
            batch_size=512,
            augmentation="pad_crop,flip",
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        ),
        model=Model(name="preact_resnet18", final_norm=False),
        mix=Mix("kmixup(k=16, shared=True, alpha=10.0)"),
        optimizer=Optimizer(
            name="sgd", learning_rate=0.1, weight_decay=1e-4, schedule="steps", milestones=(100, 150), warmup_epochs=0.0
        ),
        num_epochs=200,
        checkpoint_steps=2000,
    )
