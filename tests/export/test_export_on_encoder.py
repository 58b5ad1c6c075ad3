"""Export of a run on an encoder: one file that gives the scores of the run, on the device as well."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
import tolerances
from installed import need
from joined_heads import ONNX, TFLITE, make_run, peaked, windows
from receiving import receive

from birdnet_fs import schema
from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Manifest, read_manifest
from birdnet_fs.export import export as exporter
from birdnet_fs.fewshot.base import write_encoder_base
from birdnet_fs.fewshot.enrollment import enroll
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import Run

need("tensorflow")


class Shipped(NamedTuple):
    recordings: Path  # a folder for each of three kinds
    run: Run  # two of them enrolled on a TFLite stand-in
    made: list[exporter.Artifact]  # fp32 and dynamic, with embeddings
    said: list[str]


def support(recordings: Path, *kinds: str) -> Manifest:
    found = read_manifest(schema.Data(root=str(recordings), layout="folders"))
    return dataclasses.replace(found, clips=tuple(clip for clip in found.clips if clip.labels[0] in kinds))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Shipped:
    folder = tmp_path_factory.mktemp("shipped")
    recordings = encoder_runs.write_recordings(folder / "recordings", 4)
    card = peaked(TFLITE)
    encoder = foreign_encoders.write_tflite(folder / "small.tflite", card.n_samples, card.width, 9)
    (folder / "small.json").write_text(json.dumps(card.to_json()))
    two = support(recordings, "owl", "tit")
    base = write_encoder_base(
        schema.Model(encoder=str(encoder), encoder_card=str(folder / "small.json")), two.clips, folder / "base"
    )
    run = enroll(base, two, folder / "owls")
    said: list[str] = []
    settings = {"precision": ("fp32", "dynamic"), "embeddings": True, "audio": recordings, "n_segments": 12}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "say", said.append)
        made = exporter.export_run(run, folder / "out", **settings)
    return Shipped(recordings, run, made, said)


def test_file_gives_the_scores_of_the_run(shipped: Shipped) -> None:
    waveforms = windows(6, TFLITE.n_samples)
    wanted = open_engine(shipped.run.path).forward(waveforms)
    assert np.ptp(wanted[:, :2]) > 0.5
    exact, short = (open_engine(made.path).forward(waveforms) for made in shipped.made)
    assert np.abs(exact - wanted).max() <= tolerances.EXPORT_FP32_LOGITS
    assert 0 < np.abs(short - wanted).max() <= shipped.made[1].parity_report.parity.limits.max_abs


def test_parity_is_proved_as_for_any_export(shipped: Shipped) -> None:
    found = json.loads((shipped.made[0].path.parent / "parity.json").read_text())
    for made in shipped.made:
        entry = found[made.path.name]
        assert "the encoder is a file of another project" in entry["no_second_route"]
        for runtime in entry["runtimes"].values():
            assert runtime["n_segments"] == 12 and not runtime["faults"] and set(runtime["by_batch"]) == {"3"}
            assert runtime["embeddings"]["width"] == TFLITE.width and not runtime["embeddings"]["faults"]


def test_sidecar_and_card_name_the_encoder_and_its_license(shipped: Shipped) -> None:
    file = shipped.made[0].path
    sidecar = json.loads(file.with_suffix(".json").read_text())
    assert sidecar["input_shape"] == [None, TFLITE.n_samples] and sidecar["input"] == "waveform"
    about = sidecar["encoder"]
    assert (about["name"], about["license"], about["normalization"]) == ("small_peak", "CC BY-NC 4.0", "peak_0.25")
    assert about["transform"] == "sqrt" and len(about["sha256"]) == 64
    text = file.with_name(f"{file.stem}_card.md").read_text(encoding="utf-8")
    for words in (
        "head `prototypes` on the encoder A small one",
        "- Encoder A small one: **CC BY-NC 4.0**. The file contains it",
        about["sha256"],
        "peak scaled to 0.25, inside the file",
        "Windows of 0.2 s at 16,000 Hz",
        "the head reads its square root",
    ):
        assert words in text
    assert "## Front-end" not in text
    assert sum("whose license is CC BY-NC 4.0: pass it on as that license allows" in line for line in shipped.said) == 1


def test_device_checks_the_file_and_scores_with_it(shipped: Shipped) -> None:
    for made in shipped.made:
        done = receive("check_artifact.py", made.path)
        assert done.returncode == 0, done.stdout + done.stderr
    file = shipped.recordings / "owl" / "owl0.wav"
    done = receive("run_tflite.py", shipped.made[0].path, file, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    waveform = read_audio(file, sample_rate_hz=TFLITE.sample_rate_hz).waveform
    n = TFLITE.n_samples
    rows = np.stack([np.pad(waveform[i : i + n], (0, max(0, i + n - len(waveform)))) for i in range(0, 4 * n, n)])
    wanted = open_engine(shipped.run.path).forward(rows)
    assert [each["start_s"] for each in found["segments"]] == pytest.approx([0, 0.2, 0.4, 0.6])
    logits = np.array([each["logits"] for each in found["segments"]])
    assert np.abs(logits - wanted).max() <= tolerances.EXPORT_FP32_LOGITS


def test_a_class_enrolled_on_the_device_scores_as_one_enrolled_into_the_run(shipped: Shipped, tmp_path: Path) -> None:
    shutil.copytree(shipped.recordings / "wren", tmp_path / "clips" / "wren")
    model, mine = shipped.made[0].path, tmp_path / "mine.npz"
    done = receive("enroll_tflite.py", "enroll", model, tmp_path / "clips", "-o", mine)
    assert done.returncode == 0, done.stderr
    assert "4 classes: owl, tit, wren, unknown" in done.stdout
    file = shipped.recordings / "wren" / "wren3.wav"
    done = receive("enroll_tflite.py", "score", model, mine, file, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours = enroll(shipped.run, support(shipped.recordings, "wren"), tmp_path / "ours")
    assert list(ours.classes) == found["labels"]
    waveform = read_audio(file, sample_rate_hz=TFLITE.sample_rate_hz).waveform[: 3 * TFLITE.n_samples]
    wanted = open_engine(ours.path).forward(waveform.reshape(3, -1))
    logits = np.array([each["logits"] for each in found["segments"]])[:3]
    assert np.ptp(wanted) > 1 and np.abs(logits - wanted).max() <= tolerances.ENROLLED_ON_DEVICE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "onnx"}, "small.tflite is TFLite, which onnx does not load: export with --target tflite"),
        ({"target": "birdnet"}, "the encoder A small one reads 0.2 s at 16,000 Hz"),
        ({"input": "features"}, "leave out --input features"),
        ({"precision": ("fp32", "int8")}, "--precision fp32, fp16 or dynamic"),
    ],
)
def test_options_that_do_not_fit_the_encoder_are_refused_before_anything_is_written(
    shipped: Shipped, tmp_path: Path, options: dict, words: str
) -> None:
    with pytest.raises(UserError) as error:
        exporter.export_run(shipped.run, tmp_path / "out", **options)
    assert words in str(error.value) and not (tmp_path / "out").exists()


def test_onnx_encoder_and_head_are_one_file_for_the_device(tmp_path: Path) -> None:
    need("onnxscript")
    recordings = encoder_runs.write_recordings(tmp_path / "recordings", 1)
    encoder = foreign_encoders.write_onnx(tmp_path / "small.onnx", ONNX.n_samples, ONNX.width, batch=1)
    (tmp_path / "small.json").write_text(json.dumps(ONNX.to_json()))
    run = make_run(tmp_path / "run", encoder, str(tmp_path / "small.json"))
    [made] = exporter.export_run(run, tmp_path / "out", target="onnx", audio=recordings, n_segments=4)
    assert json.loads(made.path.with_suffix(".json").read_text())["input_shape"] == [1, ONNX.n_samples]
    file = recordings / "tit" / "tit0.wav"
    done = receive("run_onnx.py", made.path, file, "--json")
    assert done.returncode == 0, done.stderr
    waveform = read_audio(file, sample_rate_hz=ONNX.sample_rate_hz).waveform[: 3 * ONNX.n_samples]
    wanted = open_engine(run.path).forward(waveform.reshape(3, -1))
    logits = np.array([each["logits"] for each in json.loads(done.stdout)["segments"]])[:3]
    assert np.ptp(wanted) > 0.5 and np.abs(logits - wanted).max() <= tolerances.EXPORT_FP32_LOGITS
