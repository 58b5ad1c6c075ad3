"""TFLite files as objects that can be changed: read, written, and their outputs put in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """The model of a TFLite file, as the `ModelT` of the runtime's schema."""
    from ai_edge_litert import schema_py_generated as fb

    return fb.ModelT.InitFromPackedBuf(path.read_bytes(), 0)


def write(model: Any, path: Path) -> None:
    """Write what `read` gave."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def order_outputs(path: Path, names: Sequence[str]) -> None:
    """Put the outputs of a file's one signature in the order of `names`: hosts go by number, the converter by chance.

    Raises:
        ValueError: The signature has other outputs.
    """
    model = read(path)
    (signature,) = model.signatureDefs
    found = {bytes(output.name).decode(): output for output in signature.outputs}
    if set(found) != set(names):
        raise ValueError(f"the outputs must be called {', '.join(names)}; they are {', '.join(sorted(found))}")
    wanted = [int(found[name].tensorIndex) for name in names]
    graph = model.subgraphs[signature.subgraphIndex]
    if [int(i) for i in graph.outputs] != wanted:
        graph.outputs = wanted
        write(model, path)
