"""What `make bench` runs: figures as ratios to a reference in the same run."""
