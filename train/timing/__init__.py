"""The tables of the benchmark and the programs that they time."""
