"""Tile2Vec: an encoder trained without labels, so that similar motifs have similar embeddings."""
