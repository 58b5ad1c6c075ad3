"""The specification of one exported file: format, input, precision, batch size and output."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdnet_fs.schema import FrontEnd

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "openvino": ".xml"}
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")  # from the most to the least exact
INPUTS = ("waveform", "features")
FFTS = {"builtin": "the builtin operator RFFT2D", "matrix": "matrix products"}  # of a front-end inside a TFLite file
OUTPUTS = {"predictions": "logits", "embeddings": "embedding"}  # outputs of a file, in order -> layer of the network


@dataclass(frozen=True)
class ExportSpec:
    """Specification of one exported file.

    Attributes:
        format: A key of `SUFFIXES`.
        input: "waveform" [batch, n_samples], mono in ±1, with the front-end inside; or "features"
            [batch, n_frames, n_mels, n_channels].
        precision: fp32; fp16: weights stored in float16, arithmetic in float32; dynamic: weights in 8 bits,
            activations in float32; int8: weights and activations in 8 bits. Input, output and front-end are float32.
        batch: Segments per call; None means any number.
        output_kind: Kind of the predictions. "logits"; "probabilities": the sigmoid or softmax of the logits, as the
            run was trained; "log_odds": log p / (1 - p) of the softmax probabilities, for a program that applies a
            sigmoid to the output of any model.
        outputs: Keys of `OUTPUTS`, "predictions" first.
        axes: Axis order of features: "time_first" as above, or "mel_first" [batch, n_mels, n_frames, n_channels].
        fft: Requested FFT, a key of `FFTS`: "builtin" is written where it can be (see `fft_of`).
        calibrated: Whether slope and offset of the run's calibration are part of the file (calibrated_output.py): the
            predictions are calibrated log-odds instead of logits, or their sigmoid instead of other probabilities.
    """

    format: str = "tflite"
    input: str = "waveform"
    precision: str = "fp32"
    batch: int | None = 1
    output_kind: str = "logits"
    outputs: tuple[str, ...] = ("predictions",)
    axes: str = "time_first"
    fft: str = "builtin"
    calibrated: bool = False

    def fft_of(self, frontend: "FrontEnd | None") -> str:
        """The FFT in the file.

        Args:
            frontend: The front-end of the run; None for one on a foreign encoder, which reads waveforms itself.

        Returns:
            "builtin" for a TFLite file of waveforms whose n_fft is a power of 2, unless "matrix" is asked for; "matrix"
            for other files of waveforms; "" where no front-end is in the file.

        >>> from birdnet_fs.frontend import preset
        >>> ExportSpec().fft_of(preset("panns")), ExportSpec("onnx").fft_of(preset("panns"))
        ('builtin', 'matrix')
        """
        from birdnet_fs.frontend.builtin_fft import has_builtin_fft

        if self.input != "waveform" or frontend is None:
            return ""
        return self.fft if self.format == "tflite" and has_builtin_fft(frontend) else "matrix"

    @property
    def kind(self) -> str:
        """Kind of the predictions for a reader: "logits" (log-odds included) or "probabilities"."""
        return "logits" if self.output_kind == "log_odds" else self.output_kind

    def activation(self, trained: str) -> str:
        """The activation that turns logits of the file into probabilities.

        Args:
            trained: The activation of the run, "sigmoid" or "softmax".

        Returns:
            "sigmoid" for log-odds and calibrated predictions, else `trained`.
        """
        return "sigmoid" if self.output_kind == "log_odds" or self.calibrated else trained

    @property
    def suffix(self) -> str:
        """Suffix of the file name, such as ".tflite"."""
        return SUFFIXES[self.format]

    def input_shape(self, n_samples: int, features: tuple[int, ...]) -> tuple[int | None, ...]:
        """The shape of the file's input.

        Args:
            n_samples: Samples per segment.
            features: Shape (n_frames, n_mels, n_channels) of the network's input, or (width,) of a head on an encoder.

        Returns:
            (batch, n_samples), or (batch, ...) with the axes of the features in the order of `axes`; an open batch is
            None.

        >>> ExportSpec(input="features", axes="mel_first").input_shape(160_000, (313, 128, 1))
        (1, 128, 313, 1)
        """
        if self.input == "waveform":
            return (self.batch, n_samples)
        if len(features) != 3:
            return (self.batch, *features)
        n_frames, n_mels, n_channels = features
        rest = (n_frames, n_mels) if self.axes == "time_first" else (n_mels, n_frames)
        return (self.batch, *rest, n_channels)
