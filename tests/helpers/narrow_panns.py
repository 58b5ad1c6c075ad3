"""PANNs of few channels."""

import dataclasses

import torch

from birdnet_fs.models import panns


def narrow(variant: str, width: int) -> panns.Size:
    """A row of VARIANTS with every channel count divided by `width`."""
    size = panns.VARIANTS[variant]
    stages = tuple(dataclasses.replace(stage, channels=stage.channels // width) for stage in size.stages)
    small = {name: getattr(size, name) // width for name in ("embedding", "stem", "top")}
    return dataclasses.replace(size, stages=stages, **small)


def decibels(n: int, n_frames: int, n_mels: int) -> torch.Tensor:
    return torch.randn((n, n_frames, n_mels, 1), generator=torch.Generator().manual_seed(1)) * 10 - 40
