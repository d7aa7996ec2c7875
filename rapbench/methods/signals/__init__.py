"""What the units of a network signal (Kindermans et al. 2018): sums over samples, directions, patterns, quality."""
