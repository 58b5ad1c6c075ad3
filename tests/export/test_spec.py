"""The specification of one exported file."""

import pytest

from birdnet_fs.export.spec import ExportSpec


@pytest.mark.parametrize(
    ("output_kind", "kind", "activation"),
    [
        ("logits", "logits", "softmax"),
        ("probabilities", "probabilities", "softmax"),
        ("log_odds", "logits", "sigmoid"),  # the sigmoid of log-odds is the softmax
    ],
)
def test_kind_and_activation_follow_from_output_kind(output_kind: str, kind: str, activation: str) -> None:
    spec = ExportSpec(output_kind=output_kind)
    assert (spec.kind, spec.activation("softmax")) == (kind, activation)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ExportSpec(), (1, 160_000)),
        (ExportSpec(batch=None), (None, 160_000)),
        (ExportSpec(input="features", batch=8), (8, 313, 128, 2)),
        (ExportSpec(input="features", axes="mel_first", batch=None), (None, 128, 313, 2)),
    ],
)
def test_input_shape_has_batch_and_axes(spec: ExportSpec, shape: tuple[int | None, ...]) -> None:
    assert spec.input_shape(160_000, (313, 128, 2)) == shape


def test_suffix_is_that_of_the_format() -> None:
    formats = ("tflite", "onnx", "torchscript", "pt2", "openvino")
    assert [ExportSpec(name).suffix for name in formats] == [".tflite", ".onnx", ".pt", ".pt2", ".xml"]
