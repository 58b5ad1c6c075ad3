"""Clips of the synthetic aviary with file names of ANIMAL-SPOT."""

import numpy as np
import soundfile

from birdnet_fs.data.synthetic import aviary

LENGTH_S, RATE = 0.8, aviary.SAMPLE_RATE_HZ
SPECIES = aviary.SPECIES[:3]


def write_pieces(folder, label, waveform, starts_s, tape, number):
    """Clips LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav of one recording."""
    for start in starts_s:
        first = round(start * RATE)
        piece = waveform[first : first + round(LENGTH_S * RATE)]
        name = f"{label}-song_{number}_2024_{tape}_{round(start * 1000)}_{round((start + LENGTH_S) * 1000)}.wav"
        soundfile.write(folder / name, piece, RATE, subtype="PCM_16")


def write_clips(folder, *, binary, n_clips=12, n_noise=20):
    """Clips of songs of three species (or all named call) and of recordings without birds, named noise."""
    folder.mkdir()
    for which, species in enumerate(SPECIES):
        for number in range(n_clips):
            scene = aviary.synthesize_clip(SPECIES, which, number, 6, 0)
            events = [each for each in scene.events if each.label == species.latin]
            starts = {
                min(s, 4.2) for e in events for s in np.arange(e.onset_s, max(e.offset_s - 0.6, e.onset_s + 0.1), 0.4)
            }
            write_pieces(
                folder,
                "call" if binary else species.latin,
                scene.waveform,
                sorted(starts)[:6],
                f"t{which}{number}",
                number,
            )
    for number in range(n_noise):
        quiet = aviary.synthesize_background(number, 0).waveform
        write_pieces(folder, "noise", quiet, np.arange(0, 4, 0.8), f"n{number}", number)
    return folder
