"""Trains a network with mixed samples, on every device of every process.

Usage: python -m train.main [--config=FILE] [--config.FIELD=VALUE ...] [--workdir=FOLDER]

Without flags, it trains a small network on scikit-learn's digits with k-mixup, in about a minute
on two CPU cores. It writes a run folder: config.json, environment.json, data.json, inputs.png
(the first samples that the network sees), metrics.jsonl, events/ for TensorBoard, checkpoints/
and curves.png. To resume a stopped run, start it again with the same --workdir. It continues from
the last checkpoint and ends as if it had never stopped.
"""

from collections.abc import Sequence
import sys

from train.program import program


@program("train.main")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli

    arguments = cli.parse(argv, __doc__ or "")
    from train.learning import mixing
    from train.running import dry_run, parallel
    from train.tasks import classifier  # after --help and usage errors, which need no JAX

    config = arguments.config
    config.mix.policy = mixing.normal_form(config.mix)
    parallel.join(arguments.distributed, arguments.coordinator, arguments.num_processes, arguments.process_id)
    change: dict[str, bool] = {"allow_config_change": arguments.allow_config_change}
    if arguments.dry_run:
        dry_run.show(config, arguments.workdir, classifier.build, **change)
        return
    workdir = arguments.workdir or parallel.new_folder(f"{config.data.title}-{config.mix.policy}")
    classifier.train_and_evaluate(config, workdir, **change, profile_steps=arguments.profile_steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
