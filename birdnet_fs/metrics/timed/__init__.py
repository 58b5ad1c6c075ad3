"""Scores of windows against annotations with times.

recordings.py      scores and events of one recording, and the detections at a threshold
event_scores.py    precision, recall and F-measure of events, by intersection over union or by collars
psds.py            the polyphonic sound detection score, over all thresholds
false_alarms.py    share of detected events against false alarms per hour
"""
