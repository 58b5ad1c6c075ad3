"""Exact resume of a training: its state on disk (`state`) and what that holds (`contents`)."""
