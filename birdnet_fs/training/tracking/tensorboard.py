"""Training metrics as TensorBoard event files, shown by `tensorboard --logdir runs`.

Records are written with the protocol buffers and the record writer of the `tensorboard` package. Its EventFileWriter is
not used, because it loads TensorFlow where that is installed and writes from its own thread. Tags are Loss/train,
Accuracy/val, val/per_class_accuracy/{class}, val/mean_per_class_accuracy and so on (`tag`).
"""

import math
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from birdnet_fs import schema
from birdnet_fs.core.files import refuse_link
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import show

FOLDER = "tensorboard"


class TensorBoard:
    """Tracker that writes an event file into the folder `tensorboard` of a run, created with the first metrics.

    Args:
        output: The run folder.
        settings: Settings shown as text; "" adds none and keeps earlier event files. Default: "".
    """

    def __init__(self, output: Path, settings: str = "") -> None:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        refuse_link(output / FOLDER, output, "remove it")
        self._path, self._settings = output / FOLDER / name, settings

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path) -> Self:
        """Create the tracker of a new training; event files of an earlier one are removed with the first metrics."""
        say(f"TensorBoard: tensorboard --logdir {output.parent}")
        return cls(output, show(experiment))

    def epoch(self, row: Mapping[str, float]) -> None:
        """Write the history row of an epoch."""
        self._send(row, int(row["epoch"]))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Write the metrics of the test."""
        self._send(numbers, epoch)

    def close(self, status: str) -> None:
        """Do nothing; an event file has no final status."""

    def location(self) -> dict[str, str]:
        """Return no arguments; the run folder is enough to append to the event files."""
        return {}

    def _send(self, row: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
        values = [Summary.Value(tag=tag(n), simple_value=value) for n, value in shown.items() if math.isfinite(value)]
        header = [] if self._path.exists() else self._header()
        self._append(*header, {"step": step, "summary": Summary(value=values)})

    def _header(self) -> list[dict[str, Any]]:
        """The first records of an event file."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        events: list[dict[str, Any]] = [{"file_version": "brain.Event:2"}]
        if self._settings:
            shutil.rmtree(self._path.parent, ignore_errors=True)  # TensorBoard would draw two trainings as one curve
            text = TensorProto(dtype=DT_STRING, string_val=[f"```\n{self._settings}\n```".encode()])
            kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
            events.append({"summary": Summary(value=[Summary.Value(tag="settings", tensor=text, metadata=kind)])})
        return events

    def _append(self, *events: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            for event in events:
                RecordWriter(file).write(Event(wall_time=time.time(), **event).SerializeToString())


def tag(column: str) -> str:
    """Return the TensorBoard tag of a history column.

    >>> tag("train_loss"), tag("val_acc"), tag("val_recall"), tag("val_f1"), tag("learning_rate")
    ('Loss/train', 'Accuracy/val', 'val/mean_per_class_accuracy', 'val/f1', 'learning_rate')
    """
    stage, _, name = column.partition("_")
    if stage not in ("train", "val", "test"):
        return column
    named = {"loss": f"Loss/{stage}", "acc": f"Accuracy/{stage}", "recall": f"{stage}/mean_per_class_accuracy"}
    return named.get(name, f"{stage}/{name}")
