"""The exporting process on Keras' torch backend: `python -m birdnet_fs.export.onnx.convert JOB.json`.

The network is built from code and the run's weights in float32 and lowered (models/lowering/lower.py: BatchNormalization
folded, channels first inside, LSTM and GRU as one node each). As ONNX (torch.onnx, dynamo=True) front-end, network and
activation are joined node by node, so that a coarser precision (onnx_precision.py) reaches the network alone; OpenVINO
reads that same graph. TorchScript and PT2 are the module as torch itself stores it.

The job is JSON: {"run": folder, "frontend": settings, "input": "waveform" | "features", "axes": "time_first" |
"mel_first" (of features), "formats": [...], "precisions": [...], "batch": 1 | null, "answers": "logits" |
"probabilities", "outputs": [...], "calibration": `.npy` of float32 features [n, n_frames, n_mels] where int8 is asked
for, "folder": where `<precision><suffix>` goes}. What cannot be written leaves its reason, one sentence, in
`<precision><suffix>.error.txt`; the others are written.
"""

import contextlib
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.export.spec import OUTPUTS, SUFFIXES, ExportSpec
from birdnet_fs.inference.activations import tensor_to_probabilities
from birdnet_fs.runs.run import Run

_TRIAL_BATCH = 2  # of the example that is traced where the batch is open; torch takes 0 and 1 for constants
_MOST_BYTES = 2**31 - 1  # of one ONNX file: the limit of its container


class FrontEndAndNetwork(torch.nn.Module):
    """Front-end, network and activation as one module.

    Args:
        network: Features [batch, n_frames, n_mels, n_channels] -> one output or a tuple of them; None: none.
        spec: Put this front-end in front: the module then reads waveforms [batch, n_samples].
        activation: "sigmoid" or "softmax" behind the first output, "" for none.
        axes: Of features that are given: "time_first", or "mel_first" [batch, n_mels, n_frames, n_channels].
    """

    def __init__(
        self,
        network: torch.nn.Module | None,
        spec: schema.FrontEnd | None,
        activation: str = "",
        axes: str = "time_first",
    ) -> None:
        super().__init__()
        self.network, self.spec, self.activation, self.axes = network, spec, activation, axes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every output, the predictions first."""
        from birdnet_fs.frontend.in_keras import log_mel

        if self.spec is not None:
            x = log_mel(x, self.spec, "dft").unsqueeze(-1).expand(-1, -1, -1, self.spec.n_channels)
        elif self.axes == "mel_first":
            x = x.transpose(1, 2)
        if self.network is None:
            return (x,)
        answers = self.network(x)
        first, *others = answers if isinstance(answers, tuple) else (answers,)
        if self.activation:
            first = tensor_to_probabilities(first, self.activation)
        return (first, *others)


@dataclass(frozen=True)
class Writer:
    """One job, opened.

    Attributes:
        network: The run's network, lowered: features -> the outputs in their order.
        spec: The front-end.
        input: "waveform" or "features".
        axes: Of features, "time_first" or "mel_first".
        outputs: Names of the outputs.
        activation: Behind the first output; "" for logits.
        batch: How many segments at once; None: any number.
        calibration: Real features [n, n_frames, n_mels] for int8.
        facts: What the file says of itself, as text.
    """

    network: torch.nn.Module
    spec: schema.FrontEnd
    input: str
    axes: str
    outputs: tuple[str, ...]
    activation: str
    batch: int | None
    calibration: Path | None
    facts: Mapping[str, str]

    # -- ONNX and what is made of it

    def onnx(self, precision: str) -> Any:
        """The whole graph with the network in one precision, as an `onnx.ModelProto`."""
        from birdnet_fs.export.onnx import precision as precisions

        network = precisions.convert(self._network, precision, self._calibration_features)
        if self.activation:
            precisions.activate(network, self.activation)
        model = network if self.input == "features" else precisions.put_in_front(self._front_end, network)
        del model.metadata_props[:]  # notes of the tools that made it
        for key, value in {**self.facts, "precision": precision}.items():
            model.metadata_props.add(key=key, value=value)
        return model

    @cached_property
    def _network(self) -> Any:
        return self._to_onnx(
            FrontEndAndNetwork(self.network, None, axes=self.axes), self._shape("features"), "features", self.outputs
        )

    @cached_property
    def _front_end(self) -> Any:
        from birdnet_fs.export.onnx.precision import steady_floor

        model = self._to_onnx(FrontEndAndNetwork(None, self.spec), self._shape("waveform"), "waveform", ("features",))
        if self.spec.compression in ("db", "log"):
            steady_floor(model, self.spec.amin)
        return model

    def _to_onnx(self, module: FrontEndAndNetwork, shape: tuple[int, ...], name: str, outputs: tuple[str, ...]) -> Any:
        from onnxscript import optimizer

        program = torch.onnx.export(
            module.eval(),
            (self._example(shape),),
            dynamo=True,
            dynamic_shapes=self._dynamic_shapes(),
            input_names=[name],
            output_names=list(outputs),
            verbose=False,
        )
        if program is None:  # only when a file is written at once
            raise RuntimeError("torch.onnx.export gave no program")
        # weights that torch's graph reorders first (the gates of a GRU) are stored as they are needed
        optimizer.fold_constants(program.model, input_size_limit=2**30, output_size_limit=2**30)
        optimizer.optimize(program.model)
        return program.model_proto

    def _calibration_features(self) -> np.ndarray:
        """float32 [n, n_frames, n_mels, n_channels]."""
        from birdnet_fs.frontend.in_numpy import network_input

        if self.calibration is None:
            raise UserError("int8 needs features of real segments to take the ranges from; the job names none.")
        features = network_input(np.load(self.calibration, allow_pickle=False), self.spec).astype(np.float32)
        return features.swapaxes(1, 2) if self.axes == "mel_first" else features

    def write_onnx(self, precision: str, path: Path) -> None:
        """One file; networks over 2 GB do not fit into its container."""
        model = self.onnx(precision)
        if model.ByteSize() > _MOST_BYTES:
            raise UserError(
                f"An ONNX file holds 2 GB and this network takes {model.ByteSize() / 1e9:.1f} GB; export it as pt2."
            )
        path.write_bytes(model.SerializeToString())

    def write_openvino(self, precision: str, path: Path) -> None:
        """`.xml` and, beside it, `.bin` with the weights."""
        if importlib.util.find_spec("openvino") is None:
            raise UserError('OpenVINO is missing: pip install "birdnet_fs[openvino]"')
        if precision not in ("fp32", "fp16"):
            raise UserError(f"OpenVINO files are written in fp32 and fp16. Received: {precision}")
        import openvino

        model = openvino.Core().read_model(self.onnx(precision).SerializeToString())
        for key, value in {**self.facts, "precision": precision}.items():
            model.set_rt_info(value, ["birdnet_fs", key])
        # fp16 is in the graph already; OpenVINO's own would round the front-end too
        openvino.save_model(model, str(path), compress_to_fp16=False)

    # -- torch's own formats

    def write_torchscript(self, precision: str, path: Path) -> None:
        """A traced module, for `torch.jit.load` in Python and C++."""
        self._only_fp32(precision, "TorchScript")
        module, example = self._whole()
        with torch.no_grad():
            traced = torch.jit.trace(module, example, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={"facts.json": json.dumps(self.facts)})

    def write_pt2(self, precision: str, path: Path) -> None:
        """An exported program, for `torch.export.load`."""
        self._only_fp32(precision, "PT2")
        module, example = self._whole()
        program = torch.export.export(module, (example,), dynamic_shapes=self._dynamic_shapes())
        torch.export.save(program, path, extra_files={"facts.json": json.dumps(self.facts)})

    @staticmethod
    def _only_fp32(precision: str, name: str) -> None:
        if precision != "fp32":
            raise UserError(f"{name} files are written in fp32 alone; take ONNX for {precision}.")

    def _whole(self) -> tuple[FrontEndAndNetwork, Tensor]:
        spec = self.spec if self.input == "waveform" else None
        return FrontEndAndNetwork(self.network, spec, self.activation, self.axes).eval(), self._example(
            self._shape(self.input)
        )

    def _shape(self, input: str) -> tuple[int, ...]:
        """Of one input, without the batch."""
        features = (*self.spec.shape, self.spec.n_channels)
        whole = ExportSpec(input=input, axes=self.axes, batch=1).input_shape(self.spec.n_samples, features)
        return tuple(n for n in whole[1:] if n is not None)

    def _example(self, shape: tuple[int, ...]) -> Tensor:
        batch = _TRIAL_BATCH if self.batch is None else self.batch
        return torch.rand((batch, *shape), generator=torch.Generator().manual_seed(0)) * 0.1

    def _dynamic_shapes(self) -> tuple[dict[int, Any]] | None:
        return ({0: torch.export.Dim("batch", min=1)},) if self.batch is None else None


def open_job(job: Mapping[str, Any]) -> Writer:
    """Build the network of a job."""
    import keras

    from birdnet_fs.models import with_outputs
    from birdnet_fs.models.lowering.lower import as_module
    from birdnet_fs.runs.run import load_run

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    run = load_run(job["run"])
    model = with_outputs(run.build_model(), [OUTPUTS[name] for name in job["outputs"]])
    calibration = job.get("calibration")
    return Writer(
        network=as_module(model),
        spec=schema.FrontEnd.from_artifact(job["frontend"]),
        input=job["input"],
        axes=job["axes"] if job["input"] == "features" else "time_first",
        outputs=tuple(job["outputs"]),
        activation=run.activation if job["answers"] == "probabilities" else "",
        batch=job["batch"],
        calibration=Path(calibration) if calibration else None,
        facts=run_facts(run, job["answers"]),
    )


def run_facts(run: Run, answers: str) -> dict[str, str]:
    """The essentials as text, for the place that a format has for it: the sidecar may get lost."""
    return {
        "classes": json.dumps(list(run.classes), ensure_ascii=False),
        "sample_rate_hz": str(run.frontend.sample_rate_hz),
        "segment_s": f"{run.frontend.segment_s:g}",
        "output": answers,
        "activation": run.activation,
    }


def run_job(job: Mapping[str, Any]) -> None:
    """Write every format of the job in every precision, or the reason why not."""
    writer, folder = open_job(job), Path(job["folder"])
    ways: dict[str, Callable[[str, Path], None]] = {
        "onnx": writer.write_onnx,
        "torchscript": writer.write_torchscript,
        "pt2": writer.write_pt2,
        "openvino": writer.write_openvino,
    }
    for which in job["formats"]:
        for precision in job["precisions"]:
            path = folder / f"{precision}{SUFFIXES[which]}"
            try:
                _quietly(ways[which], precision, path)
            except Exception as error:  # an exporter may raise anything, and the other files are wanted
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".error.txt").write_text(_sentence(error, which, precision) + "\n", "utf-8")


def _quietly(write: Callable[[str, Path], None], precision: str, path: Path) -> None:
    """Exporters talk of themselves at length, on both streams."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        write(precision, path)


def _sentence(error: Exception, which: str, precision: str) -> str:
    if isinstance(error, UserError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0][:300] if lines else "it said nothing"
    return f"The network cannot be written as {which} in {precision}: {type(error).__name__}: {said}"


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
