"""Runs exported for the birdnet package and other BirdNET programs."""

from pathlib import Path

import numpy as np
import soundfile
from run_to_export import make_run

from birdnet_fs import models, schema
from birdnet_fs.audio.read import read_audio
from birdnet_fs.export.export import export_run
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.runs.run import Run

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit", "Pica pica_Magpie", "rain")


ON_48K = PRESETS["birdnet_3s_48k"]


def exported(folder: Path, frontend: schema.FrontEnd, audio: Path, **settings: object) -> tuple[Run, Path]:
    """A run with random weights and its artifact for a BirdNET program."""
    experiment = schema.Experiment(
        name="host",
        frontend=frontend,
        model=schema.Model(name=str(settings.pop("model", "cnn/tiny"))),
        data=schema.Data(root=str(folder / "gone"), multi_label=bool(settings.pop("multi_label", True))),
    )
    run = make_run(folder / "run", experiment, CLASSES)
    target = str(settings.pop("target", "birdnet"))
    (made,) = export_run(run, folder / "out", target=target, audio=audio, n_segments=8, **settings)
    return run, made.path


def at_rate(file: Path, rate_hz: int, path: Path) -> np.ndarray:
    """Write a recording at another rate without its last second, so that the last segment is padded; its waveform."""
    waveform = read_audio(file, sample_rate_hz=rate_hz).waveform[:-rate_hz]
    soundfile.write(path, waveform, rate_hz, subtype="FLOAT")
    return waveform


def outputs_of(run: Run, waveform: np.ndarray, layers: tuple[str, ...] = ("logits",)) -> list[np.ndarray]:
    """The run's own outputs, by the NumPy front-end and Keras on torch."""
    n = run.frontend.n_samples
    rows = np.pad(waveform, (0, -len(waveform) % n)).reshape(-1, n)
    network = models.with_outputs(run.build_model(), layers)
    found = network.predict_on_batch(network_input(log_mel(rows, run.frontend), run.frontend))
    return [np.asarray(each) for each in (found if len(layers) > 1 else [found])]
