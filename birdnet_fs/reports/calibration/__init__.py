"""Calibration of a model on labeled recordings: numbers, thresholds, false alarms, the calibrated copy and its page."""
