"""What a step computes: mixing, objectives, optimisers, and the checks before."""
