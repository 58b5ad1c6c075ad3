"""The second conversion route to TFLite: the ONNX file of a network through onnx2tf, in another environment.

Source: onnx2tf 1.29.24 (https://github.com/PINTO0309/onnx2tf), the last release for Python 3.11. It shares no code with
the first route (convert.py), so that comparing the two reveals a fault of either. It needs older libraries than this
package and therefore a separate environment: `export/requirements-onnx2tf.txt`.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.runtimes import subprocesses
from birdnet_fs.export.tflite import edit as flatbuffer

PRECISIONS = {"fp32": "float32", "fp16": "float16", "dynamic": "dynamic_range_quant", "int8": "integer_quant"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FAULT = re.compile(r"^(?:[\w.]*(?:Error|Exception)\b|ERROR:)")


def convert_onnx(
    onnx_path: Path,
    tflite_path: Path,
    *,
    python: Path,
    timeout_s: float,
    precision: str = "fp32",
    calibration: Path | None = None,
) -> None:
    """Convert an ONNX file of a fixed batch to TFLite.

    Args:
        onnx_path: File of onnx/convert.py for the input "features" and a batch of 1, in fp32.
        tflite_path: File to write after a successful conversion; the output of onnx2tf is written to `<name>.log`.
        python: Python executable of an environment made from `export/requirements-onnx2tf.txt`.
        timeout_s: Time limit in seconds. On one core one to three minutes are usual: onnx2tf always converts to float16
            as well.
        precision: A key of `PRECISIONS`. Default: "fp32".
        calibration: `.npy` of float32 features as the file reads them [n, n_frames, n_mels, n_channels], for int8.

    Raises:
        UserError: The conversion failed or exceeded the time limit; the reason is in the message.
    """
    if precision not in PRECISIONS:
        raise UserError(f"onnx2tf writes {', '.join(PRECISIONS)}. Received: {precision!r}")
    name, batch, outputs = _graph_ends(onnx_path)
    if batch is None:
        raise UserError(f"onnx2tf needs a fixed batch; {onnx_path.name} takes any number of segments.")
    log = tflite_path.with_suffix(".log")
    # onnx2tf writes files beside the one it reads
    with TemporaryDirectory(prefix=".part-onnx2tf-", dir=tflite_path.parent) as folder:
        source, made = Path(folder) / "network.onnx", Path(folder) / "made"
        shutil.copyfile(onnx_path, source)
        # without -kat an input of four axes is taken as channels first and transposed
        arguments: list[object] = ["-i", source, "-o", made, "-kat", name, "-osd", "-coion", "-n"]
        if precision == "dynamic":
            arguments += ["-odrqt"]
        elif precision == "int8":
            arguments += ["-oiqt", "-cind", name, *_calibration(calibration, Path(folder))]
        try:
            done = subprocesses.run_python(python, ["-m", "onnx2tf", *arguments], timeout_s=timeout_s)
        except subprocess.TimeoutExpired as ended:
            log.write_text(_decoded(ended.stdout) + _decoded(ended.stderr), encoding="utf-8")
            raise UserError(
                f"onnx2tf did not end within {timeout_s:g} s, where one to three minutes are usual on one core; "
                f"its log is {log}"
            ) from None
        except OSError as error:
            raise UserError(
                f"{python} cannot be started ({error}); give the Python executable of an environment."
            ) from None
        log.write_text(_decoded(done.stdout) + _decoded(done.stderr), encoding="utf-8")
        written = made / f"network_{PRECISIONS[precision]}.tflite"
        if done.returncode or not written.is_file():
            reason = failure_reason(_decoded(done.stdout) + _decoded(done.stderr))
            raise UserError(f"onnx2tf cannot convert the network (exit status {done.returncode}: {reason}); see {log}")
        if len(outputs) > 1:
            try:
                flatbuffer.order_outputs(written, outputs)
            except ValueError:
                raise UserError(
                    f"onnx2tf drops the names of the outputs in {precision}, so that they cannot be identified; "
                    "convert a network with one output."
                ) from None
        os.replace(written, tflite_path)


def failure_reason(log: str) -> str:
    r"""The line of a log that gives the reason of a failure: the last error in it, else the last line.

    >>> failure_reason('ValueError: Exception encountered when calling layer "add".\n\nDimensions must be equal.')
    'Dimensions must be equal.'
    """
    lines = [_ANSI.sub("", line).strip() for line in log.splitlines()]
    lines = [line for line in lines if line] or ["no output"]
    last = max((i for i, line in enumerate(lines) if _FAULT.match(line)), default=len(lines) - 1)
    if "Exception encountered when calling layer" in lines[last]:  # Keras gives the place first, then the reason
        last = min(last + 1, len(lines) - 1)
    return lines[last][:300]


def _graph_ends(path: Path) -> tuple[str, int | None, list[str]]:
    """Name and batch (None for any) of an ONNX file's one input, and the names of its outputs."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    (given,) = graph.input
    return given.name, given.type.tensor_type.shape.dim[0].dim_value or None, [output.name for output in graph.output]


def _calibration(features: Path | None, folder: Path) -> list[object]:
    """Arguments of -cind: a file, and the mean 0 and deviation 1 for standardizing it."""
    if features is None:
        raise UserError("int8 needs features of real segments for calibration. Received: none")
    rows = folder / "calibration.npy"
    np.save(rows, np.load(features, allow_pickle=False).astype(np.float32))
    return [rows, "0", "1"]


def _decoded(output: str | bytes | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
