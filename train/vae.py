"""Trains a VAE for VarMixup, on every device of every process, and tests whether it is good enough.

Usage: python -m train.vae [--config=FILE] [--config.FIELD=VALUE ...] [--workdir=FOLDER]

A configuration is a Python file with get_vae(), by default train/configs/vae_digits.py. The
program writes a run folder like train.main's. Train with it by train.main
--config.mix.policy=varmixup --config.mix.vae=FOLDER. The folder also has sheet.png
(reconstructions, samples of the prior, and mixes of pixels beside mixes of latents), quality.json,
and in judge/ a classifier of clean images, whose accuracy on reconstructions measures the VAE.
"""

from collections.abc import Sequence
import sys

from train.config import VaeConfig
from train.program import program


@program("train.vae")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli

    arguments = cli.parse(
        argv, __doc__ or "", kind=VaeConfig, function="get_vae", default=cli.CONFIGS / "vae_digits.py"
    )
    from train.measuring import vae_report
    from train.running import dry_run, parallel
    from train.tasks import autoencoder  # after --help and usage errors, which need no JAX

    config = arguments.config
    parallel.join(arguments.distributed, arguments.coordinator, arguments.num_processes, arguments.process_id)
    change: dict[str, bool] = {"allow_config_change": arguments.allow_config_change}
    if arguments.dry_run:
        dry_run.show(config, arguments.workdir, autoencoder.build, **change)
        return
    workdir = arguments.workdir or parallel.new_folder(f"{config.data.title}-vae")
    autoencoder.train_and_evaluate(config, workdir, **change, profile_steps=arguments.profile_steps)
    vae_report.write(workdir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
