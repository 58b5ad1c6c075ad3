"""Classifiers of bird and other animal sounds: from labeled recordings to files verified on the runtime of a device.

    import birdnet_fs as bfs

    model = bfs.load("run_or_artifact")
    table = model.predict("recording.wav")  # table["start_s"], table["Turdus merula"]

Rooms in the order of the data; each imports only from rooms above its own (tests/test_rooms.py reads the imports):

    core         errors, atomic files, printable text, progress, random streams, key=value settings
    schema       what can be chosen: frozen settings with unit, default and check
    audio        read and decode recordings, repair headers
    data         manifest, splits, partition, windows, copies, score tables; label_formats/, synthetic/
    frontend     waveform -> log-mel: one definition, three executions
    batches      segments -> augmented batches; augment/, cache/
    models       one family per file; pretrained/, quantization/, lowering/
    encoders     foreign TFLite and ONNX networks (BirdNET, Perch): cards, inspection, running
    runs         run folders, checkpoints, provenance, initial weights
    metrics      AUROC, classification, few-shot, events; the Keras metrics
    inference    scores and embeddings of clips, recordings and waveforms, from runs, ensembles and exported files
    training     batches + model -> run folder; episodic/, resume/, distributed/, tracking/
    tuning       search settings with Optuna
    fewshot      new species from a few clips: enrollment, calibration, evaluation
    motifs       matrix profile, Tile2Vec, no-call detection, classifiers on motifs
    analysis     recordings -> detections and tables; table_formats/
    search       stores of embeddings: nearest neighbors, what to label next
    reports      scores -> metrics.json and self-contained pages
    export       run -> TFLite, ONNX, ..., verified against the run; targets/, tflite/, onnx/, parity/, runtimes/
    cluster      many recordings in shards: planned, run by SLURM or processes, merged; what a folder lacks
    cli          one small file per verb
"""

import importlib
import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # export runs in a process of its own, with tensorflow

__version__ = "0.2.0"

# public name -> module and name in it, imported on first use, so that `import birdnet_fs` takes little time
_LAZY = {
    "load": ("birdnet_fs.inference.model", "load"),
    "read_audio": ("birdnet_fs.audio.read", "read_audio"),
    "log_mel": ("birdnet_fs.frontend", "log_mel"),
    "preset": ("birdnet_fs.frontend", "preset"),
    "build_model": ("birdnet_fs.models", "build"),
    "load_keras": ("birdnet_fs.models", "load_keras"),
    "fit_data": ("birdnet_fs.training.fit.data", "fit_data"),
    "save_run": ("birdnet_fs.runs.from_keras", "save_run"),
    "ClassWiseAUC": ("birdnet_fs.metrics.keras_auroc", "ClassWiseAUC"),
    "PerClassAccuracy": ("birdnet_fs.metrics.keras_per_class", "PerClassAccuracy"),
    "Trainer": ("birdnet_fs.reports.notebook.trainer", "Trainer"),
    "macro_auroc": ("birdnet_fs.metrics.auroc", "macro_auroc"),
    "UserError": ("birdnet_fs.core.errors", "UserError"),
}
_SUBPACKAGES = ("frontend", "models", "schema")

__all__ = ["ClassWiseAUC", "PerClassAccuracy", "UserError", "build_model", "fit_data", "load", "load_keras", "log_mel"]
__all__ += ["macro_auroc", "preset", "read_audio", "save_run"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_SUBPACKAGES})
