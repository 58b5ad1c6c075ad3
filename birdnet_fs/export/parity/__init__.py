"""Compare exported files with their reference: inputs, tolerances, embeddings."""
