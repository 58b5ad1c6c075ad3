"""Numbers of a training as TensorBoard event files: `tensorboard --logdir runs`.

Records are appended with the protocol buffers and the record writer of the `tensorboard` package itself; its
EventFileWriter would load TensorFlow into the training where that is installed, and write from a thread of its own.
Tags are those of the design documents: Loss/train, Accuracy/val, val/per_class_accuracy/{class},
val/mean_per_class_accuracy.
"""

import math
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import show

FOLDER = "tensorboard"


class TensorBoard:
    """An event file in `output/tensorboard`, made with the first number.

    Args:
        output: The run folder.
        settings: To show as text; "" = not.
    """

    def __init__(self, output: Path, settings: str = "") -> None:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._path, self._settings = output / FOLDER / name, settings

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path) -> "TensorBoard":
        """For a training; what an earlier one left goes with the first number."""
        say(f"TensorBoard: tensorboard --logdir {output.parent}")
        return cls(output, show(experiment))

    def epoch(self, row: Mapping[str, float]) -> None:
        self._send(row, int(row["epoch"]))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        self._send(numbers, epoch)

    def close(self, status: str) -> None:
        pass

    def place(self) -> dict[str, str]:
        return {}

    def _send(self, row: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
        values = [Summary.Value(tag=tag(n), simple_value=value) for n, value in shown.items() if math.isfinite(value)]
        first = [] if self._path.exists() else self._first()
        self._append(*first, {"step": step, "summary": Summary(value=values)})

    def _first(self) -> list[dict[str, Any]]:
        """What a file begins with."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        events: list[dict[str, Any]] = [{"file_version": "brain.Event:2"}]
        if self._settings:
            shutil.rmtree(self._path.parent, ignore_errors=True)  # two trainings would be drawn as one curve
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
    """The tag of a column of history.csv.

    >>> tag("train_loss"), tag("val_acc"), tag("val_recall"), tag("val_f1"), tag("learning_rate")
    ('Loss/train', 'Accuracy/val', 'val/mean_per_class_accuracy', 'val/f1', 'learning_rate')
    """
    stage, _, name = column.partition("_")
    if stage not in ("train", "val", "test"):
        return column
    named = {"loss": f"Loss/{stage}", "acc": f"Accuracy/{stage}", "recall": f"{stage}/mean_per_class_accuracy"}
    return named.get(name, f"{stage}/{name}")
