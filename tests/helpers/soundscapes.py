"""Small trees in the layout of BirdCLEF-2021: soundscapes with a chirp in some windows of 5 s."""

import numpy as np
import soundfile as sf

RATE = 16_000
HEAD = "row_id,site,audio_id,seconds,birds\n"


def window(rng, call, seconds=5.0):
    """Noise, with three chirps at 3 kHz where `call` is set."""
    n = round(seconds * RATE)
    x = rng.normal(0, 0.003, n)
    if call:
        for start in rng.uniform(0.1, seconds - 0.6, 3):
            t = np.arange(round(0.3 * RATE))
            chirp = np.sin(2 * np.pi * (2500 + 0.12 * t) * t / RATE) * np.hanning(len(t))
            x[round(start * RATE) :][: len(t)] += 0.05 * chirp
    return x


def write_soundscapes(root, n_recordings=12, n_windows=4, bird="rucwar"):
    """Write recordings and train_soundscape_labels.csv; returns whether each row has a call."""
    (root / "train_soundscapes").mkdir(parents=True)
    rng, rows, calls = np.random.default_rng(0), [], []
    for number in range(n_recordings):
        has = [(number + place) % 2 == 0 for place in range(n_windows)]
        audio = np.concatenate([window(rng, call) for call in has])
        sf.write(root / f"train_soundscapes/{7000 + number}_COR_20190904.flac", audio, RATE)
        for place, call in enumerate(has):
            end = 5 * (place + 1)
            rows.append(f"{7000 + number}_COR_{end},COR,{7000 + number},{end},{bird if call else 'nocall'}\n")
            calls.append(call)
    (root / "train_soundscape_labels.csv").write_text(HEAD + "".join(rows))
    return calls
