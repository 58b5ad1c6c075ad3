"""Narrow variants of every family: the same code at a fraction of the width, so that every network is tested."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from birdnet_fs import models
from birdnet_fs.models import efficientnet, efficientnet_v2, panns

_N_BLOCKS = (2, 2, 1, 1, 2, 1)  # of EfficientNetV2's stages: for each kind of block one with a shortcut
_STAGES = tuple(replace(stage, n_blocks=n) for stage, n in zip(efficientnet_v2.BASE, _N_BLOCKS, strict=True))
_V1_STAGES = tuple(replace(stage, n_blocks=1) for stage in efficientnet.VARIANTS["b0"].stages)
_S_STAGES = tuple(replace(stage, n_blocks=n) for stage, n in zip(efficientnet_v2.S, _N_BLOCKS, strict=True))


_PANNS = {  # channels of each stage, and the rest
    "cnn14": ((8, 16, 24, 32, 48, 64), {"embedding": 64}),
    "mobilenet_v1": ((8, 16, 16, 32, 32, 64, 128), {"embedding": 128, "stem": 8}),
    "mobilenet_v2": ((16, 16, 24, 32, 48, 64, 64), {"embedding": 64, "stem": 16, "top": 128}),
}


def _panns(name: str) -> dict[str, Any]:
    """Without dropout and stripes, with which a narrow network learns slowly."""
    channels, others = _PANNS[name]
    stages = zip(panns.VARIANTS[name].stages, channels, strict=True)
    off = {"block_dropout": 0.0, "pooled_dropout": 0.0, "n_stripes": 0}
    narrow = tuple(replace(stage, channels=c, n_blocks=min(2, stage.n_blocks)) for stage, c in stages)
    return {"stages": narrow, **others, **off}


# family -> fields replaced in the row of a variant, given its name
ROWS = {
    "cnn": lambda name: {"stem": 8, "blocks": (16, 24, 32, 48)} if name == "large" else {},
    "efficientnet": lambda name: {"stages": _V1_STAGES, "width": 0.25},
    "efficientnet_v2": lambda name: {
        "stages": _S_STAGES if name.startswith("s") else _STAGES,
        "width": 0.25,
        "depth": 1.0,
    },
    "ghost_efficientnet_v2": lambda name: {"stages": _S_STAGES, "width": 0.25},
    "resnet": lambda name: {"stem": 8, "channels": (8, 16, 24, 32)},
    "convnext": lambda name: {"n_blocks": (1, 1, 2, 1), "channels": (16, 24, 32, 48)},
    "panns": _panns,
    "rnn": lambda name: {"units": tuple(24 - 4 * i for i, _ in enumerate(models.family("rnn").VARIANTS[name].units))},
    "vit": lambda name: {"width": 48, "depth": 2},
    "tilenet": lambda name: {"stages": tuple(8 for _ in models.family("tilenet").VARIANTS[name].stages), "stem": 8},
    "prototypical": lambda name: (
        {"channels": (8, 16), "width": 64} if name == "v1" else {"channels": (16, 16, 32, 32), "width": 64}
    ),
}


@contextmanager
def reduced(name: str) -> Iterator[None]:
    """Context in which `models.build(name)` returns the reduced network."""
    family, _, variant = name.partition("/")
    rows = models.family(name).VARIANTS
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rows, variant, replace(rows[variant], **ROWS[family](variant)))
        yield


def shape_of(name: str, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """`shape`, enlarged where the network needs it."""
    smallest = models.family(name).MIN_SHAPE
    return (max(shape[0], smallest[0]), max(shape[1], smallest[1]), shape[2])


def code_paths() -> list[str]:
    """One variant for each path through the code; the others differ in sizes only."""
    same = {"cnn/tiny", "prototypical/v2_wide", "prototypical/v2_wide_conv_gate", "rnn/gru", "rnn/bilstm", "rnn/lstm3"}
    same |= {"resnet/18_max_pool_0", "resnet/18_max_pool_2", "resnet/34"}
    several = ("cnn", "efficientnet", "panns", "prototypical", "resnet", "rnn")
    n_variants = {family: None if family in several else 1 for family in models.FAMILIES}
    found = [f"{f}/{variant}" for f, row in models.FAMILIES.items() for variant in row.variants[: n_variants[f]]]
    return [name for name in found if name not in same]
