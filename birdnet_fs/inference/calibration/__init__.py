"""Calibration of the scores of a model: maps of log-odds, thresholds, and the file that stores them."""
