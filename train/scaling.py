"""Prints what a training step takes of the CPU, in seconds of all its cores, split into some devices.

Usage: python -m train.scaling STEPS DEVICES
"""

import sys
import time

import jax


def main(argv: list[str]) -> None:
    """Runs the program."""
    num_steps, num_devices = map(int, argv)
    jax.config.update("jax_num_cpu_devices", num_devices)
    from train import cost, parallel, steps, training_tables

    dataset = training_tables.dataset(128, 28)
    samples = parallel.place(steps.Samples(*dataset.splits["train"].resident, dataset.mean, dataset.std))
    step = cost.stepper(training_tables.config(128, method="mixup"), dataset, samples)
    jax.block_until_ready([step() for _ in range(3)])
    start = time.process_time()
    for _ in range(num_steps):
        jax.block_until_ready(step())
    print((time.process_time() - start) / num_steps)


if __name__ == "__main__":
    main(sys.argv[1:])
