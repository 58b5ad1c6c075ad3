"""Search in embeddings: the store, filling it from recordings (`embed_recordings`), nearest neighbors, result files."""
