"""Trains a VAE for VarMixup, on every device of every process, and says whether it is good enough to mix with.

Usage: python -m train.vae [--config=FILE] [--config.FIELD=VALUE ...] [--workdir=FOLDER]

A configuration is a Python file with get_vae(), such as train/configs/vae_digits.py, the
default. It leaves a run folder like train.main's, which train.main takes by
--config.mix.method=varmixup --config.mix.vae=FOLDER, and in it sheet.png (reconstructions, samples
of the prior, mixes of pixels against mixes of latents), quality.json, and in judge/ a
classifier of clean images, by whose accuracy reconstructions are judged.
"""

from collections.abc import Sequence
import sys


def main(argv: Sequence[str]) -> int:
    """Runs the program, and returns its exit code: 0, or 2 for a mistake in the arguments."""
    try:
        from train import cli
        from train.config import UsageError, VaeConfig
    except ModuleNotFoundError as error:
        print(f"train.vae: {error.name} is missing: pip install -e '.[train]' -c constraints.txt", file=sys.stderr)
        return 2
    try:
        arguments = cli.parse(
            argv, __doc__ or "", kind=VaeConfig, function="get_vae", default=cli.CONFIGS / "vae_digits.py"
        )
        from train import autoencoder, parallel, vae_report  # after --help and usage errors, which need no JAX

        config = arguments.config
        parallel.join(arguments.distributed, arguments.coordinator, arguments.num_processes, arguments.process_id)
        workdir = arguments.workdir or parallel.new_folder(f"{config.data.name}-vae")
        autoencoder.train_and_evaluate(config, workdir)
        vae_report.write(workdir)
    except UsageError as error:
        print(f"train.vae: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
