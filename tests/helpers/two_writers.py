"""A process that analyzes recordings into folders at the same time as another one with other settings."""

import contextlib
from pathlib import Path
from typing import Any

from level_model import LevelModel

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.core import lock
from birdnet_fs.core.errors import UserError


def analyze_in_rounds(
    recordings: Path, output: Path, min_confidence: float, n_rounds: int, barrier: Any, answers: Any, naive: bool
) -> None:
    """Analyze into `output/0`, `output/1`, ..., each begun together with the other process; `naive` has no lock."""
    if naive:
        lock.folder_lock = lambda *_, **__: contextlib.nullcontext()  # type: ignore[assignment]
    for number in range(n_rounds):
        barrier.wait(60)
        said = ""
        try:
            analyze(LevelModel().engine, [recordings], output / str(number), min_confidence=min_confidence)
        except UserError as error:
            said = str(error)
        answers.put((number, min_confidence, said))
