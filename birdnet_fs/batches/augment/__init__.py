"""Random changes of training segments, each drawn from (seed, epoch, index)."""
