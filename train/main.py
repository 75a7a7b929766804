"""Trains a network with mixed samples, on every local device.

Usage: python -m train.main [--config=FILE] [--config.FIELD=VALUE ...] [--workdir=FOLDER]

Without flags: a small network on scikit-learn's digits with k-mixup, in under a minute on
two CPU cores. It leaves a run folder: config.json, metrics.jsonl, checkpoints/, curves.png.
"""

from collections.abc import Sequence
import pathlib
import sys
import time


def main(argv: Sequence[str]) -> int:
    """Runs the program, and returns its exit code: 0, or 2 for a mistake in the arguments."""
    try:
        from train import config as config_lib
    except ModuleNotFoundError as error:
        print(f"train.main: {error.name} is missing: pip install -e '.[train]' -c constraints.txt", file=sys.stderr)
        return 2
    try:
        config, workdir = config_lib.parse(argv, __doc__ or "")
        from train import loop  # after --help and usage errors, which need no JAX

        started = time.strftime("%Y%m%d-%H%M%S")
        folder = workdir or pathlib.Path("runs") / f"{config.data.name}-{config.mix.method}-{started}"
        loop.train_and_evaluate(config, folder)
    except config_lib.UsageError as error:
        print(f"train.main: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
