"""Write ONNX, OpenVINO, TorchScript, pt2: `python -m birdnet_fs.export.onnx.convert JOB.json` on Keras' torch backend.

The network is built from code and the run's weights in float32 and lowered (models/lowering/lower.py:
BatchNormalization folded, channels first inside, LSTM and GRU as one node each). For ONNX (torch.onnx, dynamo=True)
front-end, network and activation are joined as graphs, so that a lower precision (precision.py) applies to the network
only; OpenVINO reads the same graph. TorchScript and pt2 are the module as torch stores it.

The job is JSON: {"run": folder, "frontend": settings, "input": "waveform" | "features", "axes": "time_first" |
"mel_first" (of features), "formats": [...], "precisions": [...], "batch": 1 | null, "output_kind": "logits" |
"probabilities", "outputs": [...], "calibration": `.npy` of float32 features [n, n_frames, n_mels] for int8, "maps":
{"slope": [...], "offset": [...]} of calibrated predictions (or left out), "folder": output folder of
`<precision><suffix>`}. For a file that cannot be written, the reason is written to
`<precision><suffix>.error.txt` as one sentence; the others are written.
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
from birdnet_fs.export.onnx.front_end_and_network import CalibratedOutput, FrontEndAndNetwork
from birdnet_fs.export.spec import OUTPUTS, SUFFIXES, ExportSpec
from birdnet_fs.runs.run import Run

_TRIAL_BATCH = 2  # batch of the traced example where the batch is open; torch treats 0 and 1 as constants
_MAX_BYTES = 2**31 - 1  # of one ONNX file, the limit of protobuf


@dataclass(frozen=True)
class Writer:
    """Writes the files of one job.

    Attributes:
        network: The run's network, lowered: features -> outputs in the order of `outputs`.
        spec: The front-end.
        input: "waveform" or "features".
        axes: Axis order of features, "time_first" or "mel_first".
        outputs: Names of the outputs.
        activation: Activation of the first output; "" for logits.
        batch: Segments per call; None means any number.
        calibration: `.npy` of real features, float32 [n, n_frames, n_mels], for int8.
        facts: Metadata to store in the file.
        calibrated: Calibration of the first output, in place of the activation; None for none.
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
    calibrated: CalibratedOutput | None

    # -- ONNX and OpenVINO

    def onnx(self, precision: str) -> Any:
        """The whole graph with the network in one precision, as an `onnx.ModelProto`."""
        from birdnet_fs.export.onnx import precision as precisions

        network = precisions.convert_precision(self._network, precision, self._calibration_features)
        if self.calibrated is not None:
            shape = (len(self.calibrated.slope),)
            precisions.append_output(network, self._to_onnx(self.calibrated, shape, "logits", ("predictions",)))
        elif self.activation:
            precisions.append_activation(network, self.activation)
        if self.input == "waveform":
            network = precisions.join_models(self._front_end, network, "front_end/")
        model = network
        del model.metadata_props[:]  # added by the tools
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
        from birdnet_fs.export.onnx.precision import raise_log_floor

        model = self._to_onnx(FrontEndAndNetwork(None, self.spec), self._shape("waveform"), "waveform", ("features",))
        if self.spec.compression in ("db", "log"):
            raise_log_floor(model, self.spec.amin)
        return model

    def _to_onnx(self, module: torch.nn.Module, shape: tuple[int, ...], name: str, outputs: tuple[str, ...]) -> Any:
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
        if program is None:  # only when a file is written directly
            raise RuntimeError("torch.onnx.export returned no program")
        # store weights that torch's graph reorders (the gates of a GRU) in their final order
        optimizer.fold_constants(program.model, input_size_limit=2**30, output_size_limit=2**30)
        optimizer.optimize(program.model)
        return program.model_proto

    def _calibration_features(self) -> np.ndarray:
        """float32 [n, n_frames, n_mels, n_channels]."""
        from birdnet_fs.frontend.in_numpy import network_input

        if self.calibration is None:
            raise UserError("int8 needs features of real segments for calibration. Received a job without calibration.")
        features = network_input(np.load(self.calibration, allow_pickle=False), self.spec).astype(np.float32)
        return features.swapaxes(1, 2) if self.axes == "mel_first" else features

    def write_onnx(self, precision: str, path: Path) -> None:
        """Write one ONNX file.

        Args:
            precision: "fp32", "fp16", "dynamic" or "int8".
            path: The file to write.

        Raises:
            UserError: The network is larger than 2 GB, the limit of an ONNX file.
        """
        model = self.onnx(precision)
        if model.ByteSize() > _MAX_BYTES:
            raise UserError(
                f"An ONNX file holds 2 GB and this network takes {model.ByteSize() / 1e9:.1f} GB; export it as pt2."
            )
        path.write_bytes(model.SerializeToString())

    def write_openvino(self, precision: str, path: Path) -> None:
        """Write an OpenVINO model, `.xml` and a `.bin` with the weights beside it.

        Args:
            precision: "fp32" or "fp16".
            path: The `.xml` to write.

        Raises:
            UserError: OpenVINO is not installed, or the precision is not supported.
        """
        if importlib.util.find_spec("openvino") is None:
            raise UserError('OpenVINO is missing: pip install "birdnet_fs[openvino]"')
        if precision not in ("fp32", "fp16"):
            raise UserError(f"OpenVINO files are written in fp32 and fp16. Received: {precision}")
        import openvino

        model = openvino.Core().read_model(self.onnx(precision).SerializeToString())
        for key, value in {**self.facts, "precision": precision}.items():
            model.set_rt_info(value, ["birdnet_fs", key])
        # the graph already holds fp16 weights; OpenVINO's compression would round the front-end as well
        openvino.save_model(model, str(path), compress_to_fp16=False)

    # -- torch's own formats

    def write_torchscript(self, precision: str, path: Path) -> None:
        """Write a traced module for `torch.jit.load` in Python and C++; `precision` must be "fp32"."""
        self._only_fp32(precision, "TorchScript")
        module, example = self._whole()
        with torch.no_grad():
            traced = torch.jit.trace(module, example, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={"facts.json": json.dumps(self.facts)})

    def write_pt2(self, precision: str, path: Path) -> None:
        """Write an exported program for `torch.export.load`; `precision` must be "fp32"."""
        self._only_fp32(precision, "PT2")
        module, example = self._whole()
        program = torch.export.export(module, (example,), dynamic_shapes=self._dynamic_shapes())
        torch.export.save(program, path, extra_files={"facts.json": json.dumps(self.facts)})

    @staticmethod
    def _only_fp32(precision: str, name: str) -> None:
        if precision != "fp32":
            raise UserError(f"{name} files are written in fp32 only; export {precision} as ONNX.")

    def _whole(self) -> tuple[FrontEndAndNetwork, Tensor]:
        spec = self.spec if self.input == "waveform" else None
        module = FrontEndAndNetwork(self.network, spec, self.activation, self.axes, self.calibrated)
        return module.eval(), self._example(self._shape(self.input))

    def _shape(self, input: str) -> tuple[int, ...]:
        """Shape of an input without the batch."""
        features = (*self.spec.shape, self.spec.n_channels)
        whole = ExportSpec(input=input, axes=self.axes, batch=1).input_shape(self.spec.n_samples, features)
        return tuple(n for n in whole[1:] if n is not None)

    def _example(self, shape: tuple[int, ...]) -> Tensor:
        batch = _TRIAL_BATCH if self.batch is None else self.batch
        return torch.rand((batch, *shape), generator=torch.Generator().manual_seed(0)) * 0.1

    def _dynamic_shapes(self) -> tuple[dict[int, Any]] | None:
        return ({0: torch.export.Dim("batch", min=1)},) if self.batch is None else None


def open_job(job: Mapping[str, Any]) -> Writer:
    """The writer of a job (see the module), with its network built."""
    run, network = open_head(job)
    calibration = job.get("calibration")
    return Writer(
        network=network,
        spec=schema.FrontEnd.from_artifact(job["frontend"]),
        input=job["input"],
        axes=job["axes"] if job["input"] == "features" else "time_first",
        outputs=tuple(job["outputs"]),
        activation=run.activation if job["output_kind"] == "probabilities" else "",
        batch=job["batch"],
        calibration=Path(calibration) if calibration else None,
        facts=run_facts(run, job),
        calibrated=calibrated_output(run, job),
    )


def open_head(job: Mapping[str, Any]) -> tuple[Run, torch.nn.Module]:
    """The run of a job, and its network (of a run on an encoder the head) with the outputs of the job, lowered."""
    import keras

    from birdnet_fs.models import with_outputs
    from birdnet_fs.models.lowering.lower import as_module
    from birdnet_fs.runs.run import load_run

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    run = load_run(job["run"])
    return run, as_module(with_outputs(run.build_model(), [OUTPUTS[name] for name in job["outputs"]]))


def calibrated_output(run: Run, job: Mapping[str, Any]) -> CalibratedOutput | None:
    """The calibration of the first output of a job; None where it has none."""
    if job.get("maps") is None:
        return None
    return CalibratedOutput(job["maps"], run.activation, probabilities=job["output_kind"] == "probabilities")


def run_facts(run: Run, job: Mapping[str, Any]) -> dict[str, str]:
    """Essential metadata as text, stored in the file itself in case the sidecar gets lost."""
    return {
        "classes": json.dumps(list(run.classes), ensure_ascii=False),
        "sample_rate_hz": str(run.frontend.sample_rate_hz),
        "segment_s": f"{run.frontend.segment_s:g}",
        "output": job["output_kind"],
        "activation": run.activation if job.get("maps") is None else "sigmoid",
    }


def run_job(job: Mapping[str, Any]) -> None:
    """Write every format of the job in every precision, or the reason in `.error.txt` (see the module)."""
    write_files(open_job(job), job)


def write_files(writer: Writer, job: Mapping[str, Any]) -> None:
    """Write every format of a job in every precision with its writer, or the reason in `.error.txt`."""
    folder = Path(job["folder"])
    writers: dict[str, Callable[[str, Path], None]] = {
        "onnx": writer.write_onnx,
        "torchscript": writer.write_torchscript,
        "pt2": writer.write_pt2,
        "openvino": writer.write_openvino,
    }
    for which in job["formats"]:
        for precision in job["precisions"]:
            path = folder / f"{precision}{SUFFIXES[which]}"
            try:
                _quietly(writers[which], precision, path)
            except Exception as error:  # exporters raise errors of any class, and the other files must be written
                path.unlink(missing_ok=True)
                path.with_name(path.name + ".error.txt").write_text(_sentence(error, which, precision) + "\n", "utf-8")


def _quietly(write: Callable[[str, Path], None], precision: str, path: Path) -> None:
    """Write a file without the verbose output of the exporters."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        write(precision, path)


def _sentence(error: Exception, which: str, precision: str) -> str:
    if isinstance(error, UserError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0][:300] if lines else "no message"
    return f"The network cannot be written as {which} in {precision}: {type(error).__name__}: {reason}"


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
