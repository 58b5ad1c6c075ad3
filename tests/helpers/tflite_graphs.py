"""Small TFLite files, written operator by operator."""

from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.encoders.tflite_graph import write_model


class TfliteGraph:
    """A graph of float32 tensors; operators are added in the order in which they run."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as fb

        self._fb = fb
        self._codes: list[int] = []
        self.model, self.graph = fb.ModelT(), fb.SubGraphT()
        self.model.version, self.model.description = 3, "stand-in"
        self.model.buffers, self.model.operatorCodes = [fb.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []

    def tensor(self, name: str, shape: Any, data: np.ndarray | None = None) -> int:
        """Add a tensor of a shape, -1 for an open batch; with data it is a constant, float32 or int32."""
        one = self._fb.TensorT()
        one.name, one.shape = name, np.array([1 if size < 0 else size for size in shape], np.int32)
        types = self._fb.TensorType
        one.type = types.FLOAT32 if data is None or data.dtype == np.float32 else types.INT32
        if data is None:
            one.shapeSignature, one.buffer = np.array(shape, np.int32), 0
        else:
            one.buffer = len(self.model.buffers)
            self.model.buffers.append(self._fb.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)))
        self.graph.tensors.append(one)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """Add an operator; its output."""
        code = getattr(self._fb.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
            self.model.operatorCodes.append(
                self._fb.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1)
            )
        one = self._fb.OperatorT(opcodeIndex=self._codes.index(code), inputs=inputs, outputs=[output])
        if options is not None:
            one.builtinOptionsType = getattr(self._fb.BuiltinOptions, type(options).__name__.removesuffix("T"))
            one.builtinOptions = options
        self.graph.operators.append(one)
        return output

    def reshape(self, given: int, output: int) -> int:
        """Reshape a tensor to the shape of another."""
        shape = np.array(self.graph.tensors[output].shapeSignature, np.int32)
        to = self.tensor(f"to_{output}", [len(shape)], shape)
        return self.operator("RESHAPE", [given, to], output, self._fb.ReshapeOptionsT(newShape=shape))

    def mean(self, given: int, axes: list[int], output: int) -> int:
        """Mean over some axes."""
        axis = self.tensor(f"axes_{output}", [len(axes)], np.array(axes, np.int32))
        return self.operator("MEAN", [given, axis], output, self._fb.ReducerOptionsT())

    def dense(self, given: int, name: str, weights: np.ndarray, output: int, *, relu: bool = False) -> int:
        """Dense layer with weights [n_outputs, n_inputs] and without bias."""
        options = self._fb.FullyConnectedOptionsT(fusedActivationFunction=int(relu))
        held = self.tensor(name, weights.shape, np.ascontiguousarray(weights))
        return self.operator("FULLY_CONNECTED", [given, held, -1], output, options)

    def activation(self, name: str, given: int, output: int) -> int:
        """LOGISTIC or SOFTMAX."""
        return self.operator(name, [given], output, self._fb.SoftmaxOptionsT(beta=1.0) if name == "SOFTMAX" else None)

    def write(self, path: Path, given: int, outputs: list[int]) -> Path:
        """Write the file."""
        self.graph.inputs, self.graph.outputs, self.graph.name = [given], outputs, "main"
        self.model.subgraphs = [self.graph]
        write_model(self.model, path)
        return path
