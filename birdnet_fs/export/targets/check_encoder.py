"""Checks that a target loads a run on an encoder, which is joined in front of the head as it is.

The format, the window and the number of windows per call are those of the encoder's file, so a target that needs others
is refused with the targets that fit.
"""

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.export.encoder_part import EncoderPart
from birdnet_fs.export.targets.table import TARGETS, InputContract, Target

FORMATS = {"tflite": ("tflite",), "onnx": ("onnx", "openvino")}  # of an encoder -> of files that it can be joined in
NAMES = {"tflite": "TFLite", "onnx": "ONNX"}


def fitting_targets(part: EncoderPart) -> list[str]:
    """The targets that load files of the format and window of an encoder."""
    card = part.card
    return [
        name
        for name, row in TARGETS.items()
        if row.format in FORMATS[part.format]
        and "waveform" in row.inputs
        and any(_has_window(contract, card.sample_rate_hz, card.segment_s) for contract in row.inputs_accepted)
    ]


def check_encoder(name: str, row: Target, part: EncoderPart) -> None:
    """Check that a target loads files of the format of an encoder, and waveforms of its window.

    Args:
        name: A key of `TARGETS`.
        row: Row of the target in `TARGETS`.
        part: The encoder.

    Raises:
        UserError: The target does not load such files; the message names the targets that do.
    """
    choices = " or ".join(f"--target {target}" for target in fitting_targets(part))
    if row.format not in FORMATS[part.format]:
        raise UserError(
            f"An encoder is joined as it is, and {escaped(part.path.name)} is {NAMES[part.format]}, which {name} does "
            f"not load: export with {choices}, or train the head on a file of the encoder in another format."
        )
    if "waveform" not in row.inputs:
        raise UserError(f"{name} computes features itself, and an encoder reads waveforms: export with {choices}.")
    card = part.card
    if not any(_has_window(contract, card.sample_rate_hz, card.segment_s) for contract in row.inputs_accepted):
        accepted = " or ".join(str(contract) for contract in row.inputs_accepted)
        raise UserError(
            f"{name} reads {accepted}, and the encoder {part.title} reads {card.segment_s:g} s at "
            f"{card.sample_rate_hz:,} Hz: export with {choices}, or train the head on another encoder."
        )


def check_options(part: EncoderPart, *, input: str, precision: str, any_batch: bool) -> None:
    """Check options of an export that do not depend on the target.

    Args:
        part: The encoder.
        input: "waveform", "features", or "" for the default.
        precision: A precision.
        any_batch: Whether any number of windows per call is asked for.

    Raises:
        UserError: An encoder does not have the option.
    """
    if input == "features":
        raise UserError("A run on an encoder reads waveforms: leave out --input features.")
    if precision == "int8":
        raise UserError(
            "int8 would round the spectrogram inside the encoder: export a run on an encoder with --precision fp32, "
            "fp16 or dynamic (weights in 8 bits)."
        )
    if any_batch and part.batch is not None:
        raise UserError(f"The encoder {part.title} takes one window per call: leave out --any_batch.")


def check_batch(name: str, contract: InputContract, part: EncoderPart) -> None:
    """Check that a target that passes any number of windows per call gets a file that takes them.

    Args:
        name: A key of `TARGETS`.
        contract: The input format of the target that fits the encoder.
        part: The encoder.

    Raises:
        UserError: The encoder takes one window per call.
    """
    if contract.sample_rate_hz and contract.batch is None and not contract.accepts_batch_of_one and part.batch:
        others = [target for target in fitting_targets(part) if target != name]
        passing_one = [
            target for target in others if any(each.batch is not None for each in TARGETS[target].inputs_accepted)
        ]
        raise UserError(
            f"{name} passes any number of windows per call, and the encoder {part.title} takes one: export with "
            f"{' or '.join(f'--target {target}' for target in passing_one)}, or train the head on a file of the "
            "encoder with an open batch."
        )


def remarks(part: EncoderPart) -> list[str]:
    """Remarks on a joined file for its user: the license of the encoder, and a batch of one.

    Args:
        part: The encoder.

    Returns:
        Sentences.
    """
    found = [part.license_sentence] if part.license else []
    if part.batch is not None:
        found.append(f"The encoder {part.title} takes one window per call, and so does the exported file.")
    return found


def _has_window(contract: InputContract, sample_rate_hz: int, segment_s: float) -> bool:
    if contract.exact_fields:
        return False
    return contract.sample_rate_hz in (0, sample_rate_hz) and contract.segment_s in (0.0, segment_s)
