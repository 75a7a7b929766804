"""Mixup on ImageNet with ResNet-50, in bfloat16.

Command: python -m train.main --config=train/configs/imagenet.py
    Prepare the data before: python -m train.prepare imagenet2012 --manual_dir=FOLDER
    On a TPU: train/launch_tpu.sh --name=NAME --zone=ZONE --mount=BUCKET -- --config=train/configs/imagenet.py
        and --config.data.data_dir='~/bucket/FOLDER' behind it, where the prepared data are
Hardware: a TPU of 8 cores or more, with 16 host threads or more to decode.
Result: not yet run
"""

from train.config import Config, Data, Mix, Model, Optimizer


def get_config() -> Config:
    """SGD, 90 epochs, a learning rate of 0.1 for every 256 images of a batch."""
    return Config(
        data=Data(
            name="imagenet2012",
            batch_size=1024,
            augmentation="random_resized_crop,flip",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            num_threads=64,
        ),
        model=Model(name="resnet50", dtype="bfloat16"),
        mix=Mix("mixup(alpha=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.4, weight_decay=1e-4, warmup_epochs=5.0),
        num_epochs=90,
        checkpoint_steps=1000,
    )
