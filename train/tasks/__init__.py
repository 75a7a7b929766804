"""The tasks of a run: training a classifier or a VAE."""
