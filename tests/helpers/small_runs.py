"""Run folders whose text files and header of the weights can be read, written without Keras."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from birdnet_fs import __version__, schema
from birdnet_fs.core.settings import to_dict

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)


def write_run(folder: Path, classes: tuple[str, ...] = ("a", "b")) -> Path:
    """A run of cnn/tiny with the weights of its last layer only."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = schema.Experiment(name=folder.name, frontend=SPEC, model=schema.Model("cnn/tiny"))
    (folder / "config.json").write_text(json.dumps(to_dict(experiment)))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    (folder / "versions.json").write_text(json.dumps({"birdnet_fs": __version__}))
    save_file({"logits/kernel": np.zeros((48, len(classes)), np.float32)}, folder / "weights.safetensors")
    return folder
