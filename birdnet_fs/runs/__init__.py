"""Run folders: settings, weights, classes, partition, history, checkpoints and provenance of a trained model."""
