"""Trained runs as functions of samples:

from train import runs
model = runs.load("runs/x")
model.logits(model.read(["photo.jpg"]))
"""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from train import config as config_lib
from train import data
from train.config import Config
from train.data import folders, sources, streams
from train.errors import UsageError
from train.measuring import predictor
from train.measuring.sections import outputs
from train.running import description


class Run:
    """A trained model with its normalisation, which runs in batches on all devices.

    Attributes:
      config: the run's configuration.
      classes: names of the classes, or their numbers as text.
      input_shape: shape of one sample.
    """

    def __init__(self, config: Config, dataset: data.Dataset, asked: predictor.Predictor):
        self.config = config
        self.classes = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
        self.input_shape = dataset.splits["train"].shape
        self._predictor = asked

    def read(self, paths: Sequence[str | pathlib.Path]) -> np.ndarray:
        """Reads image files like the run's own: upright, gray or RGB, with the central square resized.

        Args:
          paths: files that Pillow reads. If the run's images are not square, they must have its size.

        Returns:
          Images, uint8 [n, h, w, c].

        Raises:
          UsageError: if the run was not trained on images, or a file is not an image.
        """
        if isinstance(paths, str | pathlib.Path):
            raise UsageError(f"read takes a list of files: write read([{str(paths)!r}])")
        if len(self.input_shape) != 3:
            raise UsageError(f"this run was trained on rows of {self.input_shape[0]} numbers, not on images")
        height, width, channels = self.input_shape
        files = folders.Files(tuple(map(pathlib.Path, paths)), (0,) * len(paths))
        size = height if height == width else (height, width)
        central = 7 / 8 if self.config.data.name in sources.STREAMED else 1
        images = streams.Images(files, 1, size, random_crop=False, seed=0, channels=channels, central=central)
        read = [images.read(i, epoch=0)[0] for i in range(len(files))]
        return np.stack(read) if read else np.zeros((0, *self.input_shape), np.uint8)

    def logits(self, inputs: Any) -> np.ndarray:
        """Returns the logits of samples, float32 [n, classes].

        Args:
          inputs: uint8 images [n, h, w, c], or [n, h, w] if gray, or rows of numbers [n, d].

        Returns:
          Float32 logits [n, classes].

        Raises:
          UsageError: if the samples have another shape or dtype than the run's.
        """
        inputs = np.asarray(inputs)
        images = len(self.input_shape) == 3
        if images and inputs.ndim == 3 and self.input_shape[-1] == 1:
            inputs = inputs[..., None]
        fits = inputs.dtype == np.uint8 if images else inputs.dtype.kind in "fiu"
        if inputs.shape[1:] != self.input_shape or not inputs.ndim or not fits:
            wanted = f"[n, {', '.join(map(str, self.input_shape))}]"
            raise UsageError(
                f"{inputs.dtype}{list(inputs.shape)} does not match what this run was trained on: "
                f"give {f'images uint8{wanted}, from 0 to 255' if images else f'rows of numbers {wanted}'}"
            )
        if not len(inputs):
            return np.zeros((0, len(self.classes)), np.float32)
        return self._predictor.map(outputs, inputs if images else inputs.astype(np.float32))

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Returns the class probabilities of samples, float32 [n, classes]; see `logits`."""
        logits = self.logits(inputs)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def load(folder: str | pathlib.Path, *, best: bool = False, ema: bool = False, batch_size: int = 500) -> Run:
    """Loads the newest checkpoint from a run folder of train.main.

    Args:
      folder: the run folder.
      best: load the best checkpoint instead, which a run with keep_best keeps.
      ema: load the averaged parameters, which a run with optimizer.ema keeps.
      batch_size: largest number of samples at a time, over all devices.

    Returns:
      The run, ready to predict.

    Raises:
      UsageError: if there is no run or no such checkpoint, or if a run without data.json lacks its data.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    folder = pathlib.Path(folder).expanduser()
    config = config_lib.read(folder / "config.json", Config)
    dataset = description.read(folder, batch_size=config.data.batch_size)
    dataset = dataset or data.load(config.data, seed=config.seed)
    return Run(config, dataset, predictor.restored(folder, config, dataset, best=best, ema=ema, batch_size=batch_size))
