"""A small run and its ONNX files, for tests of the exporter and of the receiving scripts."""

from pathlib import Path

import numpy as np
from run_to_export import CLASSES, SPEC, make_run

from birdnet_fs import models, schema
from birdnet_fs.export.onnx import convert as onnx_convert
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.runs.run import Run

OUTPUTS = ["predictions", "embeddings"]


def sounds(n: int, spec: schema.FrontEnd = SPEC) -> np.ndarray:
    """Tones that rise and fall over noise, float32 [n, n_samples] on the grid of 16-bit samples."""
    random = np.random.default_rng(3)
    time_s = np.arange(spec.n_samples) / spec.sample_rate_hz
    low, high = random.uniform(300, 7000, (2, n, 1))
    tones = np.sin(2 * np.pi * (low + (high - low) * time_s / 2) * time_s) * (np.sin(8 * time_s + low) > 0)
    rows = 0.3 * tones + random.uniform(0.001, 0.05, (n, 1)) * random.standard_normal((n, len(time_s)))
    return (np.round(rows * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def small_run(folder: Path, name: str, **data: bool) -> Run:
    """A run of a network for `CLASSES` with the front-end `SPEC`; `data` are settings of `schema.Data`."""
    experiment = schema.Experiment(
        name="small", frontend=SPEC, model=schema.Model(name=name), data=schema.Data(root="gone", **data)
    )
    return make_run(folder / "run", experiment, CLASSES)


def write(run: Run, folder: Path, **changes: object) -> Path:
    """Run a conversion job in this process."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "calibration.npy", log_mel(sounds(40)[8:], SPEC))
    job = {
        "run": str(run.path),
        "frontend": run.frontend.to_artifact(),
        "input": "waveform",
        "axes": "time_first",
        "formats": ["onnx"],
        "precisions": ["fp32"],
        "batch": None,
        "output_kind": "logits",
        "outputs": OUTPUTS,
        "calibration": str(folder / "calibration.npy"),
        "folder": str(folder),
    }
    onnx_convert.run_job({**job, **changes})
    return folder


def own_answers(run: Run) -> list[np.ndarray]:
    """The run's own logits and embeddings of 8 segments, by the NumPy front-end and Keras."""
    network = models.with_outputs(run.build_model(), ["logits", "embedding"])
    found = network.predict_on_batch(network_input(log_mel(sounds(8), SPEC), SPEC))
    return [np.asarray(each) for each in found]
