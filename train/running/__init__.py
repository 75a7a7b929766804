"""What a run is: the loop, devices, checkpoints, its folder, its log."""
