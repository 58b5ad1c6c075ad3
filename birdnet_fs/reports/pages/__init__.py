"""Pages to look at and listen to: rendering, figures, spectrograms, and the report of an evaluation."""
