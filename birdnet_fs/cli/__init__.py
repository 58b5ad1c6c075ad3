"""One small file per verb; `main` lists them in the order of the work."""
