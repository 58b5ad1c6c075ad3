"""Heads on embeddings of a foreign encoder: fitted in seconds to embeddings that were computed once."""

from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.fitting import FittedHead, fit_head

__all__ = ["FittedHead", "HeadData", "fit_head"]
