"""The submission classifier: trees on embeddings of motif clips, one tree model for each class."""
