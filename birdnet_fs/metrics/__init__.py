"""Metrics of scores and detections, exact and in NumPy, and the Keras metrics."""
