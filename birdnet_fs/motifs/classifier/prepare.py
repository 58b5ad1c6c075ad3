"""A balanced set of augmented clips: the work of `birdnet-fs classify prepare-dataset`.

Every class gets the same number of clips, drawn from its sources with replacement. Each is changed by gain, pitch, a
shift in time and colored noise, and written as `LABEL/SOURCE_NUMBER.ogg`. A clip depends on the seed, its class and its
number alone: the same call again writes what is missing, and a larger number per class adds to a set.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from birdnet_fs.batches.augment.filters import colored_noise
from birdnet_fs.batches.augment.stretch_pitch import stretch_and_shift
from birdnet_fs.batches.augment.waveform import add_noise, shift
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import track
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.waveforms import read_clip
from birdnet_fs.data.windows import pad_to
from birdnet_fs.motifs.classifier.clips import CLIP_S, SETTINGS, LabeledClip

SAMPLE_RATE_HZ = 32_000
LEDGER = "ledger.csv"
_BLOCK = 1 << 15  # samples per call of the encoder, whose stack overflows on long ones


@dataclass(frozen=True)
class ClipChanges:
    """Random changes of clips, each change with its probability.

    Attributes:
        p: Probability of each change, 0..1. Default: 0.5.
        gain_db: Largest gain in dB, up or down. Default: 12.
        semitones: Largest change of pitch, up or down. Default: 1.
        shift: Largest shift as a share of the clip; what leaves at one end enters at the other. Default: 0.1.
        snr_db: Range of the level of the clip over colored noise, in dB. Default: 5 to 40.
        exponent: Range of the color of the noise, 1 / f ** exponent. Default: -2 to 2.
    """

    p: float = 0.5
    gain_db: float = 12.0
    semitones: float = 1.0
    shift: float = 0.1
    snr_db: tuple[float, float] = (5.0, 40.0)
    exponent: tuple[float, float] = (-2.0, 2.0)


@locked("output")
def prepare_dataset(
    clips: Sequence[LabeledClip],
    output: Path,
    *,
    num_per_class: int,
    limit: int = 0,
    seed: int = 0,
    changes: ClipChanges | None = None,
) -> Ledger:
    """Write the clips; those that are there are kept.

    Args:
        clips: Sources of every class.
        output: Folder to write to.
        num_per_class: Clips of each class, 1 or more.
        limit: Largest number of clips in all, spread over the classes; 0 = no limit. Default: 0.
        seed: Seed of the draws. Default: 0.
        changes: Random changes of the clips. Default: None, the defaults of `ClipChanges`.

    Returns:
        The ledger, one row per clip: ok, partial (the source ends early or is damaged), or quarantined with the reason.

    Raises:
        UserError: A number is out of range, or the folder holds clips of another seed or other changes.
    """
    if num_per_class < 1 or limit < 0:
        raise UserError(f"--num-per-class must be 1 or more, and --limit 0 or more. Received: {num_per_class}, {limit}")
    changes = changes or ClipChanges()
    sources: dict[str, list[LabeledClip]] = {}
    for each in clips:
        sources.setdefault(each.label, []).append(each)
    _check_settings(output, {"format": 1, "seed": seed, "changes": _as_json(changes), "sources": _fingerprint(sources)})
    todo = [(label, number) for number in range(num_per_class) for label in sorted(sources)]
    ledger = Ledger()
    try:
        for label, number in track(todo[: limit or None], "preparing clips", unit="clip"):
            _prepare(ledger, output, label, number, sources[label], seed, changes)
    finally:
        ledger.write(output / LEDGER)
    return ledger


def _fingerprint(sources: Mapping[str, Sequence[LabeledClip]]) -> str:
    """Hash of the inputs of the draws: the names of the sources of every class, in order."""
    text = "\n".join(f"{each.label}/{each.name}" for label in sorted(sources) for each in sources[label])
    return f"{zlib.crc32(text.encode('utf-8', 'surrogateescape')):08x}"


def _check_settings(output: Path, settings: Mapping[str, object]) -> None:
    file = output / SETTINGS
    if file.is_file():
        again = "give another folder"
        if read_json(file, again) != settings:
            raise UserError(f"{escaped(output)} holds clips of another seed, other changes or other sources; {again}.")
    elif output.is_dir() and any(output.iterdir()):
        raise UserError(f"{escaped(output)} holds other files; give an empty or new folder.")
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)


def _as_json(changes: ClipChanges) -> dict[str, object]:
    """The changes as JSON gives them back, with lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(changes).items()}


def _prepare(
    ledger: Ledger,
    output: Path,
    label: str,
    number: int,
    sources: Sequence[LabeledClip],
    seed: int,
    changes: ClipChanges,
) -> None:
    """Write one clip, unless it is there."""
    rng = generator(seed, Stream.CLASSIFIER_CLIPS, zlib.crc32(label.encode()), number)
    source = sources[int(rng.integers(len(sources)))]
    file = output / label / f"{source.name}_{number}.ogg"
    if file.is_file():
        ledger.add(file, "ok", duration_s=CLIP_S, source=source.name)
        return
    found = read_clip(source.clip, SAMPLE_RATE_HZ)
    if found.waveform is None:
        ledger.add(file, "quarantined", f"{escaped(source.clip.path)}: {found.row.reason}", source=source.name)
        return
    waveform = changed(pad_to(found.waveform, round(CLIP_S * SAMPLE_RATE_HZ)), changes, rng)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as part, soundfile.SoundFile(part, "w", SAMPLE_RATE_HZ, 1, format="OGG") as out:
        for start in range(0, len(waveform), _BLOCK):
            out.write(waveform[start : start + _BLOCK])
    ledger.add(file, found.row.status, found.row.reason, found.row.flags, CLIP_S, source.name)


def changed(waveform: np.ndarray, changes: ClipChanges, rng: np.random.Generator) -> np.ndarray:
    """Change a clip.

    Args:
        waveform: float32 [n] in ±1 at SAMPLE_RATE_HZ.
        changes: Probability and largest size of each change.
        rng: Generator to draw from.

    Returns:
        float32 [n] in ±1; a clip that would exceed that is scaled down.
    """
    pitch, move, noise, louder = rng.random(4) < changes.p
    semitones, share, snr_db, gain_db = (
        rng.uniform(*limits)
        for limits in (
            (-changes.semitones, changes.semitones),
            (-changes.shift, changes.shift),
            changes.snr_db,
            (-changes.gain_db, changes.gain_db),
        )
    )
    if pitch:
        waveform = stretch_and_shift(waveform, len(waveform), semitones, SAMPLE_RATE_HZ)
    if move:
        waveform = shift(waveform, int(share * len(waveform)), "wrap")
    if noise and waveform.any():
        color = colored_noise(len(waveform), rng.uniform(*changes.exponent), rng, SAMPLE_RATE_HZ)
        waveform = add_noise(waveform, color, snr_db)
    if louder:
        waveform = waveform * np.float32(10 ** (gain_db / 20))
    return np.asarray(waveform / max(1.0, float(np.abs(waveform).max(initial=0))), np.float32)
