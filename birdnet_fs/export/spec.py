"""What one exported file is: its format, what it reads, how exactly it computes and what it answers."""

from dataclasses import dataclass

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "openvino": ".xml"}
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")  # the most exact first
INPUTS = ("waveform", "features")
OUTPUTS = {"predictions": "logits", "embeddings": "embedding"}  # of an artifact, in its order: the layer each is of


@dataclass(frozen=True)
class ExportSpec:
    """One way to write a run.

    Attributes:
        format: A key of `SUFFIXES`.
        input: "waveform" [batch, n_samples], mono in ±1, with the front-end inside; or "features"
            [batch, n_frames, n_mels, n_channels].
        precision: fp32; fp16: weights stored in float16, arithmetic in float32; dynamic: weights in 8 bits,
            activations in float32; int8: weights and activations in 8 bits. Input, output and front-end are float32.
        batch: How many segments at once; None: any number.
        answers: "logits"; "probabilities": their sigmoid or softmax, as the run was trained; or "log_odds": the logits
            whose sigmoids are the softmax's probabilities, for a program that puts a sigmoid behind whatever it gets.
        outputs: Of `OUTPUTS`, "predictions" first.
        axes: Of features: "time_first" as above, or "mel_first" [batch, n_mels, n_frames, n_channels].
    """

    format: str = "tflite"
    input: str = "waveform"
    precision: str = "fp32"
    batch: int | None = 1
    output_kind: str = "logits"
    outputs: tuple[str, ...] = ("predictions",)
    axes: str = "time_first"

    @property
    def kind(self) -> str:
        """What a reader takes the numbers for: "logits" or "probabilities"."""
        return "logits" if self.output_kind == "log_odds" else self.output_kind

    def activation(self, trained: str) -> str:
        """What turns the file's numbers into probabilities; `trained` is the run's own, "sigmoid" or "softmax"."""
        return "sigmoid" if self.output_kind == "log_odds" else trained

    @property
    def suffix(self) -> str:
        """How the file's name ends."""
        return SUFFIXES[self.format]

    def input_shape(self, n_samples: int, features: tuple[int, int, int]) -> tuple[int | None, ...]:
        """The shape of the file's input, `batch` in front.

        >>> ExportSpec(input="features", axes="mel_first").input_shape(160_000, (313, 128, 1))
        (1, 128, 313, 1)
        """
        if self.input == "waveform":
            return (self.batch, n_samples)
        n_frames, n_mels, n_channels = features
        rest = (n_frames, n_mels) if self.axes == "time_first" else (n_mels, n_frames)
        return (self.batch, *rest, n_channels)
