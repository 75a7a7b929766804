"""The computations of a training step: mixing, objectives, optimisers, and checks before the run."""
