"""Checks of an experiment that decode no recording; `train` begins with them, and `--cfg` makes them only."""
