"""Calibration on labeled windows: maps of log-odds, thresholds for a wanted precision, and false alarms on noise."""
