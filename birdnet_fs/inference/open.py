"""Open a run folder, an ensemble or an exported file for scoring."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.leftovers import complete_replacement
from birdnet_fs.encoders.runtimes import check_onnx_runtime
from birdnet_fs.inference.calibration.apply import calibrated
from birdnet_fs.inference.calibration.stored import read_calibration
from birdnet_fs.inference.engine import (
    Engine,
    NumpyFunction,
    build_on_device,
    lowered_network,
    network_features,
    torch_runtime,
)

if TYPE_CHECKING:
    import keras

    from birdnet_fs.runs.run import Run


def open_engine(path: Path | str, *, threads: int = 0, n_members: int = 0, runtime: str = "onnxruntime") -> Engine:
    """Open a run folder, an ensemble of runs, or `X.tflite` or `X.onnx` with the `X.json` beside it.

    Args:
        path: Folder or file.
        threads: CPU threads of the model, 1 or more. Default: 0, the runtime decides.
        n_members: Number of members of an ensemble to use, the first ones. Default: 0, all.
        runtime: "onnxruntime", "openvino", or "fastest" (the faster of those that are installed, measured on a few
            batches), for `X.onnx` only. Default: "onnxruntime".

    Returns:
        The engine.

    Raises:
        UserError: The path is none of the three, the runtime is unknown or for another kind of file, a file is damaged,
            or the runtime for it is not installed.
    """
    path = Path(path)
    if threads < 0:
        raise UserError(f"threads must be 0 (the runtime decides) or more. Received: {threads}")
    if runtime != "onnxruntime":
        check_onnx_runtime(runtime, path)
    for folder in (path, path.parent):
        complete_replacement(folder)
    if path.is_dir():
        from birdnet_fs.inference.ensemble import open_ensemble
        from birdnet_fs.runs.ensemble import is_ensemble

        if is_ensemble(path):
            return open_ensemble(path, threads=threads, n_members=n_members)
        return _open_run(path, threads)
    if path.suffix.lower() in (".tflite", ".onnx") and path.is_file():
        from birdnet_fs.inference.exported import open_artifact

        return open_artifact(path, threads, runtime)
    what = "no such file or folder" if not path.exists() else "another kind of file"
    raise UserError(
        f"A model must be a run folder (birdnet-fs train) or a .tflite or .onnx file. Received: {path}, {what}."
    )


def _open_run(path: Path, threads: int) -> Engine:
    from birdnet_fs.runs import run as run_folder

    run = run_folder.load_run(path)
    if run.experiment.model.encoder:
        from birdnet_fs.inference.encoder_features import open_features
        from birdnet_fs.inference.encoder_run import open_head

        features, head = open_features(run, threads=threads), open_head(run, threads=threads)
        identity = f"{run_folder.run_identity(path)} {features.identity}"

        def score(waveforms: np.ndarray) -> np.ndarray:
            return head.logits(features.features(waveforms))

        return Engine(
            run.classes,
            run.frontend,
            head.activation,
            identity,
            score,
            one_label=head.calibration is not None and not run.multi_label,
            clip_hop_s=run.experiment.data.clip_hop_s,
            encoder=features,
            head=head.logits,
            calibration=head.calibration,
            runtime=torch_runtime(),
        )
    model = build_on_device(run, threads=threads)
    network = lowered_network(model)

    def forward(waveforms: np.ndarray) -> np.ndarray:
        return network(network_features(waveforms, run.frontend))

    calibration = read_calibration(path, run.classes)
    frames = None
    if run.experiment.model.head == "sed" and calibration is None:
        frames = _frames_of(run, model)
    given = (run.classes, run.frontend, run.activation, run_folder.run_identity(path), forward)
    engine = Engine(*given, clip_hop_s=run.experiment.data.clip_hop_s, runtime=torch_runtime(), frames=frames)
    return calibrated(engine, calibration)


def _frames_of(run: "Run", model: "keras.Model") -> NumpyFunction:
    """Logits of frames, by a second copy of the network that is made when it is used first."""
    from birdnet_fs.models import with_outputs

    lock, made = threading.Lock(), list[NumpyFunction]()

    def frames(waveforms: np.ndarray) -> np.ndarray:
        with lock:
            if not made:
                made.append(lowered_network(with_outputs(model, ["frame_logits"])))
        return made[0](network_features(waveforms, run.frontend))

    return frames
