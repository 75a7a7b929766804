"""The parts of a run: loop, devices, checkpoints, folder and log."""
