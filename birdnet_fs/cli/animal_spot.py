"""`birdnet-fs analyze --preset animal_spot` and `--two_stage`: detection as in ANIMAL-SPOT."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.search.kinds import is_store

if TYPE_CHECKING:
    from birdnet_fs.data.ledger import Ledger


def check_preset_options(preset: str, inputs: Sequence[Path], **given: bool) -> None:
    """Refuse an unknown preset, embedding stores, and options that have no effect with a preset.

    Args:
        preset: Name of the preset; "" with `--two_stage` alone.
        inputs: Recordings and folders.
        **given: Whether an option that has no effect with the preset was given, by its name without dashes.

    Raises:
        UserError: The preset is unknown, an input is an embedding store, or an option has no effect with the preset.
    """
    from birdnet_fs.analysis.two_stage.preset import PRESETS

    if preset and preset not in PRESETS:
        raise UserError(
            f"--preset must be one of {', '.join(PRESETS)}. Received: {preset!r}.{nearest(preset, PRESETS)}"
        )
    for name, is_given in given.items():
        if is_given:
            raise UserError(f"--{name} has no effect with --preset animal_spot or --two_stage; leave it out.")
    if any(is_store(path) for path in inputs):
        raise UserError("--preset animal_spot and --two_stage need recordings; an embedding store holds no audio.")


def analyze_with_preset(
    model: Path,
    detector: Path | None,
    inputs: Sequence[Path],
    output: Path,
    *,
    min_conf: float | None,
    detector_threshold: float | None,
    slist: Path | None,
    threads: int,
    **options: Any,
) -> "Ledger":
    """Analyze recordings with the preset.

    Args:
        model: Classifier, a run folder or an exported file.
        detector: Detector, a run folder or an exported file; None = one stage.
        inputs: Recordings and folders.
        output: Folder for the tables.
        min_conf: Lowest confidence of a detection, 0..1; None = 0.85, that of the preset.
        detector_threshold: Lowest probability of a call by the detector, 0..1; None = 0.5, that of the preset.
        slist: Text file of names that are written; None = all.
        threads: CPU threads of each model, 0 or more; 0 = the runtime decides.
        **options: Further arguments of `analyze_animal_spot`.

    Returns:
        The ledger. UserErrors of `analyze_animal_spot` are passed on.
    """
    from birdnet_fs.analysis.options import read_species
    from birdnet_fs.analysis.two_stage.preset import ANIMAL_SPOT, AnimalSpotPreset
    from birdnet_fs.analysis.two_stage.run import analyze_animal_spot
    from birdnet_fs.inference.open import open_engine

    preset = AnimalSpotPreset(
        threshold=ANIMAL_SPOT.threshold if min_conf is None else min_conf,
        detector_threshold=ANIMAL_SPOT.detector_threshold if detector_threshold is None else detector_threshold,
        rule="slices" if detector is None else "windows",
    )
    return analyze_animal_spot(
        open_engine(model, threads=threads),
        inputs,
        output,
        detector=open_engine(detector, threads=threads) if detector is not None else None,
        preset=preset,
        species=read_species(slist) if slist else (),
        **options,
    )
