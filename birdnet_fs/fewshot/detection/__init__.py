"""Few-shot event detection: the other events of a class in a recording, from its first few.

frames     waveform -> band energies above the background, at a hop that fits the length of the events
windows    frames -> what is known of each window: pooled energies, and correlations with the examples
detector   a logistic regression on the windows, fitted to one recording, and its events
batch      recordings and classes of a table of labels -> detections, ledger and event scores
"""
