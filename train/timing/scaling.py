"""Prints the processor time and wall time of a training step on several devices of one CPU.

Usage: python -m train.timing.scaling STEPS DEVICES
"""

from collections.abc import Sequence
import json
import sys
import time

import jax

from train.program import program


@program("train.timing.scaling")
def main(argv: Sequence[str]) -> None:
    """Runs the program."""
    from train import cli

    parser = cli.Parser(__doc__ or "")
    parser.add_argument("steps", type=int)
    parser.add_argument("devices", type=int)
    flags = parser.parse_args(argv)
    jax.config.update("jax_num_cpu_devices", flags.devices)
    from train.learning import steps
    from train.running import parallel
    from train.timing import cost, training_tables

    dataset = training_tables.dataset(128, 28)
    samples = parallel.place(steps.Samples(*dataset.splits["train"].resident, dataset.mean, dataset.std))
    step = cost.stepper(training_tables.config(128, training_tables.MIXES["mixup"]), dataset, samples)
    jax.block_until_ready([step() for _ in range(3)])
    start = time.process_time(), time.perf_counter()
    for _ in range(flags.steps):
        jax.block_until_ready(step())
    end = time.process_time(), time.perf_counter()
    print(json.dumps([(after - before) / flags.steps for before, after in zip(start, end, strict=True)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
