"""Trains a network with mixed samples, on every local device.

Usage: python -m train.main [--config=FILE] [--config.FIELD=VALUE ...] [--workdir=FOLDER]

Without flags: a small network on scikit-learn's digits with k-mixup, in under a minute on
two CPU cores. It leaves a run folder: config.json, metrics.jsonl, checkpoints/, curves.png.
"""

from collections.abc import Sequence
import pathlib
import sys
import time

from train import config as config_lib


def main(argv: Sequence[str]) -> int:
    """Runs the program, and returns its exit code: 0, or 2 for a mistake in the arguments."""
    try:
        config, workdir = config_lib.parse(argv, __doc__ or "")
        from train import loop  # after --help and usage errors, which need no JAX

        loop.train_and_evaluate(config, workdir or _new_folder(config))
    except config_lib.UsageError as error:
        print(f"train.main: {error}", file=sys.stderr)
        return 2
    return 0


def _new_folder(config: config_lib.Config) -> pathlib.Path:
    return pathlib.Path("runs") / f"{config.data.name}-{config.mix.method}-{time.strftime('%Y%m%d-%H%M%S')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
