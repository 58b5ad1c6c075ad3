"""The programs an artifact is written for: one row each, with the requirements on the file and on the run.

A row is data; check.py turns it into an `ExportSpec` and refuses runs that do not fit. The field `source` states where
the requirements were read or tested.
"""

import dataclasses
from dataclasses import dataclass

from birdnet_fs import schema
from birdnet_fs.export.spec import INPUTS, PRECISIONS


@dataclass(frozen=True)
class InputContract:
    """One input format of a program, and the output it then expects.

    Attributes:
        output_kind: "logits" where the program applies a sigmoid itself (log-odds for a run with a softmax), else
            "probabilities".
        sample_rate_hz: Required sample rate of the run in Hz; 0 means any.
        segment_s: Required segment length of the run in seconds; 0 means any.
        preset: A front-end preset with this input format, named in error messages.
        overrides: Settings needed in addition to the preset.
        exact_fields: Front-end fields that must equal those of `preset`, for a program that computes the features
            itself.
        embeddings: Required width of the embeddings; 0 means any.
        max_classes: Largest number of classes that is read correctly; 0 means any number.
        batch: Segments per call; None means any number.
        accepts_batch_of_one: Whether, with `batch` None, a file for one segment per call works as well.
        axes: Axis order of features, as in `ExportSpec`.
    """

    output_kind: str = "logits"
    sample_rate_hz: int = 0
    segment_s: float = 0.0
    preset: str = ""
    overrides: str = ""
    exact_fields: tuple[str, ...] = ()
    embeddings: int = 0
    max_classes: int = 0
    batch: int | None = 1
    accepts_batch_of_one: bool = False
    axes: str = "time_first"

    @property
    def applies_sigmoid(self) -> bool:
        """Whether the program applies a sigmoid to the output of the model."""
        return bool(self.sample_rate_hz) and self.output_kind == "logits" and not self.exact_fields

    def accepts(self, frontend: schema.FrontEnd) -> bool:
        """Whether a front-end reads the waveforms of this program and computes the same features."""
        if self.sample_rate_hz and (frontend.sample_rate_hz, frontend.segment_s) != (
            self.sample_rate_hz,
            self.segment_s,
        ):
            return False
        return not self.differing_fields(frontend)

    def differing_fields(self, frontend: schema.FrontEnd) -> list[str]:
        """Names in `exact_fields` whose values differ from those of the preset."""
        if not self.exact_fields:
            return []
        from birdnet_fs.frontend.presets import preset

        wanted = preset(self.preset)
        return [name for name in self.exact_fields if getattr(frontend, name) != getattr(wanted, name)]

    def __str__(self) -> str:
        return f"{self.segment_s:g} s at {self.sample_rate_hz:,} Hz"


@dataclass(frozen=True)
class Target:
    """One program and the files that can be written for it.

    Attributes:
        summary: The program, in one line.
        format: A key of `spec.SUFFIXES`.
        inputs: Allowed inputs, the default first.
        precisions: Allowed precisions, the most exact first.
        inputs_accepted: Input formats of the program; the first one that fits the run is used.
        companion_files: Files beside the artifact, keys of `companion_files.WRITERS`.
        by_scientific_name: Whether the program identifies a class by the part of its label before `_` alone.
        plain_commas: Whether the program writes class names into CSV tables without quotes.
        for_birdnet: Whether the `birdnet` package loads the file, and is used to verify it where an environment has it.
        source: Place where the requirements were read or tested.
    """

    summary: str
    format: str = "tflite"
    inputs: tuple[str, ...] = INPUTS
    precisions: tuple[str, ...] = PRECISIONS
    inputs_accepted: tuple[InputContract, ...] = (InputContract(),)
    companion_files: tuple[str, ...] = ()
    by_scientific_name: bool = False
    plain_commas: bool = False
    for_birdnet: bool = False
    source: str = ""


# All front-end fields except the preset's name determine the features. Project Echo's client reads two of them from a
# file beside the network (and four more, which follow from the shape of the input).
_READ_FROM_SIDECAR = ("fmin_hz", "fmax_hz")
_FEATURES = tuple(field.name for field in dataclasses.fields(schema.FrontEnd) if field.name != "preset")
BIRDNET_24 = InputContract(
    sample_rate_hz=48_000, segment_s=3.0, preset="birdnet_3s_48k", embeddings=1024, max_classes=6522, batch=None
)
BIRDNET_30 = InputContract(
    output_kind="probabilities",
    sample_rate_hz=32_000,
    segment_s=3.0,
    preset="cnn_32k",
    overrides="frontend.segment_s=3",
    embeddings=1280,
    max_classes=11_560,
    batch=None,
    accepts_batch_of_one=True,
)

TARGETS: dict[str, Target] = {
    "tflite": Target("a TFLite file for a program of your own", source="this package (export/README.md)"),
    "birdnet": Target(
        "the `birdnet` package (1.3 or newer), as a custom model",
        inputs=("waveform",),
        inputs_accepted=(BIRDNET_24, BIRDNET_30),
        for_birdnet=True,
        source="birdnet 1.3.1, run and read: 2.4 reads logits at any batch, 3.0 probabilities, one segment per call",
    ),
    "analyzer": Target(
        "BirdNET-Analyzer 2.4 or newer, as a custom classifier",
        inputs=("waveform",),
        inputs_accepted=(BIRDNET_24,),
        companion_files=("analyzer",),
        plain_commas=True,
        for_birdnet=True,
        source="BirdNET-Analyzer 2.4.0, run and read: any batch, without the default delegate, 48 kHz and 3 s",
    ),
    "birdnet-go": Target(
        "BirdNET-Go, as birdnet.modelpath",
        inputs=("waveform",),
        inputs_accepted=(InputContract(sample_rate_hz=48_000, segment_s=3.0, preset="birdnet_3s_48k"),),
        companion_files=("birdnet_go",),
        source="BirdNET-Go, read: a custom model is treated as BirdNET 2.4 (48 kHz, 3 s), predictions are output 0",
    ),
    "birdnet-pi": Target(
        "BirdNET-Pi, in place of its BirdNET 2.4 model",
        inputs=("waveform",),
        inputs_accepted=(InputContract(sample_rate_hz=48_000, segment_s=3.0, preset="birdnet_3s_48k"),),
        companion_files=("birdnet_pi",),
        by_scientific_name=True,
        source="BirdNET-Pi, its steps run: model names are fixed, output 0 is logits, batch 1, tflite-runtime",
    ),
    "echo": Target(
        "Project Echo: its engine (front-end echo_engine) or its edge client (front-end echo_edge)",
        inputs=("features",),
        inputs_accepted=(
            InputContract(preset="echo_engine", exact_fields=_FEATURES, sample_rate_hz=48_000, segment_s=5.0),
            InputContract(
                preset="echo_edge",
                exact_fields=tuple(name for name in _FEATURES if name not in _READ_FROM_SIDECAR),
                sample_rate_hz=32_000,
                segment_s=5.0,
                axes="mel_first",
            ),
        ),
        companion_files=("echo",),
        source="Project Echo, read: the older engine makes [260, 260, 3], the newer one and the edge client [128, 313]",
    ),
    "onnx": Target(
        "an ONNX file of any batch",
        format="onnx",
        inputs_accepted=(InputContract(batch=None),),
        source="this package (onnxruntime)",
    ),
    "torchscript": Target(
        "a TorchScript file of any batch",
        format="torchscript",
        precisions=("fp32",),
        inputs_accepted=(InputContract(batch=None),),
        source="this package (torch)",
    ),
    "pt2": Target(
        "a torch.export program of any batch",
        format="pt2",
        precisions=("fp32",),
        inputs_accepted=(InputContract(batch=None),),
        source="this package (torch)",
    ),
    "openvino": Target(
        "an OpenVINO model of any batch",
        format="openvino",
        precisions=("fp32", "fp16"),
        inputs_accepted=(InputContract(batch=None),),
        source="this package (openvino)",
    ),
}
