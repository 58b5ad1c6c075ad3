"""Targets for runs on an encoder: its format, window and batch are those of the file, and misfits name what fits."""

import dataclasses
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.export.encoder_part import EncoderPart
from birdnet_fs.export.targets.check_encoder import (
    check_batch,
    check_encoder,
    check_options,
    fitting_targets,
    remarks,
)
from birdnet_fs.export.targets.table import TARGETS


def part_of(card: str, format: str = "tflite", batch: int | None = None) -> EncoderPart:
    found = CARDS[card]
    return EncoderPart(Path(f"{card}.{format}"), found, found.license, format, "0" * 64, batch)


@pytest.mark.parametrize(
    ("card", "format", "targets"),
    [
        ("birdnet_v2_4", "tflite", ["tflite", "birdnet", "analyzer", "birdnet-go", "birdnet-pi"]),
        ("birdnet_v3", "onnx", ["onnx", "openvino"]),
        ("perch_v2", "tflite", ["tflite"]),
        ("perch_v2", "onnx", ["onnx", "openvino"]),
    ],
)
def test_fitting_targets_are_accepted_and_all_others_refused_with_them(card, format, targets) -> None:
    part = part_of(card, format)
    assert fitting_targets(part) == targets
    for name, row in TARGETS.items():
        if name in targets:
            check_encoder(name, row, part)
            continue
        with pytest.raises(UserError) as error:
            check_encoder(name, row, part)
        assert all(f"--target {target}" in str(error.value) for target in targets)


def test_reason_of_a_refusal_is_said() -> None:
    for name, part, words in (
        ("birdnet", part_of("birdnet_v3", "onnx"), "birdnet_v3.onnx is ONNX, which birdnet does not load"),
        ("echo", part_of("perch_v2"), "echo computes features itself, and an encoder reads waveforms"),
        ("birdnet", part_of("perch_v2"), "and the encoder Perch v2, waveforms as they are reads 5 s at 32,000 Hz"),
    ):
        with pytest.raises(UserError) as error:
            check_encoder(name, TARGETS[name], part)
        assert words in str(error.value)


def test_one_window_per_call_is_refused_where_the_program_passes_more() -> None:
    fixed = part_of("birdnet_v2_4", batch=1)
    for name in ("birdnet", "analyzer"):
        contract = TARGETS[name].inputs_accepted[0]
        with pytest.raises(
            UserError, match="takes one: export with --target tflite or --target birdnet-go or --target"
        ):
            check_batch(name, contract, fixed)
        check_batch(name, contract, part_of("birdnet_v2_4"))
    for name in ("tflite", "birdnet-go", "birdnet-pi"):
        check_batch(name, TARGETS[name].inputs_accepted[0], fixed)
    check_batch("onnx", TARGETS["onnx"].inputs_accepted[0], part_of("birdnet_v3", "onnx", 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": "features"}, "leave out --input features"),
        ({"precision": "int8"}, "--precision fp32, fp16 or dynamic"),
        ({"any_batch": True}, "takes one window per call: leave out --any_batch"),
    ],
)
def test_options_that_an_encoder_does_not_have_are_refused(options, words) -> None:
    usual = {"input": "", "precision": "fp32", "any_batch": False}
    check_options(part_of("perch_v2", batch=1), **usual)
    check_options(part_of("perch_v2"), **{**usual, "any_batch": True})
    with pytest.raises(UserError) as error:
        check_options(part_of("perch_v2", batch=1), **{**usual, **options})
    assert words in str(error.value)


def test_license_and_a_batch_of_one_are_remarked() -> None:
    first, second = remarks(part_of("birdnet_v2_4", batch=1))
    assert "license is CC BY-NC-SA 4.0" in first and "one window per call, and so does the exported file" in second
    assert remarks(dataclasses.replace(part_of("birdnet_v2_4"), license="")) == []
