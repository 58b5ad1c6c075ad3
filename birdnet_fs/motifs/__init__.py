"""Motifs: the sounds that recur in a recording, found by its matrix profile."""

from birdnet_fs.motifs.matrix_profile import MatrixProfile, ab_join, self_join

__all__ = ["MatrixProfile", "ab_join", "self_join"]
