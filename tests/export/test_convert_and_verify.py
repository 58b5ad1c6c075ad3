"""What makes a proof: every runtime counts, a second converter must agree, and the card says it all."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from receiving import receive
from run_to_export import make_run

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import Partition, write_partition
from birdnet_fs.export import export as exporter
from birdnet_fs.export import model_card
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.parity.compare import compare_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs, make_parity_inputs
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A table of six recordings of 6.5 s with their licenses, chirps of three kinds."""
    root = tmp_path_factory.mktemp("recordings")
    random, time_s = np.random.default_rng(5), np.arange(6.5 * 32_000) / 32_000
    rows = []
    for i in range(6):
        call = 0.4 * np.sin(2 * np.pi * (1500 + 2000 * (i % 3) + 100 * i * time_s) * time_s) * (time_s % 0.5 < 0.2)
        waveform = (call + 0.01 * random.standard_normal(len(time_s))).astype(np.float32)
        soundfile.write(root / f"{i}.wav", waveform, 32_000, subtype="PCM_16")
        rows.append({"filename": f"{i}.wav", "label": CLASSES[i % 3], "licence": "CC BY 4.0" if i else "CC0"})
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory):
    experiment = schema.Experiment(
        name="edge",
        frontend=PRESETS["echo_edge"],
        model=schema.Model(name="cnn/tiny"),
        data=schema.Data(root=str(recordings), table="metadata.csv", label_column="label", group_column=""),
    )
    return make_run(tmp_path_factory.mktemp("runs") / "edge", experiment, CLASSES)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    """The run for the edge client, which reads bands first."""
    out = tmp_path_factory.mktemp("out")
    exporter.export_run(run, out, target="echo", n_segments=12, license="for everyone")
    return out


def test_a_client_that_reads_bands_first_gets_the_runs_answers(run, recordings: Path, exported: Path) -> None:
    sidecar = json.loads((exported / "edge_echo.json").read_text(encoding="utf-8"))
    assert sidecar["input_shape"] == [1, 128, 313, 1] and sidecar["axes"] == "mel_first"
    done = receive("run_tflite.py", exported / "edge_echo.tflite", recordings / "4.wav", "--json")
    assert done.returncode == 0, done.stderr
    given = np.array(json.loads(done.stdout)["segments"][0]["logits"])
    waveform = soundfile.read(recordings / "4.wav", dtype="float32")[0][: run.frontend.n_samples]
    wanted = run.build_model().predict_on_batch(log_mel(waveform[None], run.frontend)[..., None])[0]
    assert np.abs(given - wanted).max() <= tolerances.EXPORT_FP32_LOGITS and np.ptp(wanted) > 0.3
    mapping = json.loads((exported / "class_mapping.json").read_text(encoding="utf-8"))
    assert mapping["classes"] == ["Turdus merula", "toad", "Parus major"]  # as that program calls them


def test_the_card_says_whose_and_what_and_how_exact(exported: Path) -> None:
    text = (exported / "edge_echo_card.md").read_text(encoding="utf-8")
    for words in (
        "for everyone",
        "CC BY 4.0 (5 clips), CC0 (1 clips)",
        "features float32 [1, 128, 313, 1]",
        "12 segments (run)",
        "- ai-edge-litert ",
        "times real time",
        "written for `echo`",
    ):
        assert words in text
    assert "/tmp" not in text and str(exported) not in text  # nothing of the machine it was made on


def test_the_probe_overlaps_where_recordings_are_short_and_keeps_calibration_apart(run) -> None:
    probe = make_parity_inputs(run, n_segments=20, n_calibration=8)
    rows = probe.waveforms[len(EDGE_NAMES) :]
    assert len(rows) == 20 and len(probe.calibration) == 8 and len(probe.targets) == len(probe.waveforms)
    distinct = np.unique(np.concatenate([rows, probe.calibration]), axis=0)
    assert len(distinct) == 28  # no segment is asked twice, none is in both


def numbers(error: float, precision: str = "fp32"):
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(EDGE_NAMES) + 8, 3)).astype(np.float32)
    probe = ParityInputs(np.zeros((len(logits), 4), np.float32), None, "made")
    return compare_outputs(logits, logits + np.float32(error), probe, precision, "softmax")


def test_one_bad_runtime_or_a_second_converter_that_disagrees_is_a_fault() -> None:
    right, wrong = numbers(0.0), numbers(0.5)
    assert not ParityReport(ExportSpec(), {"one": right, "other": right}, {"one": right}).failures
    assert "on other" in ParityReport(ExportSpec(), {"one": right, "other": wrong}).failures[0]
    assert "second route" in ParityReport(ExportSpec(), {"one": right}, {"one": wrong}).failures[0]
    in_half = ExportSpec(precision="fp16")  # what the second converter makes of fewer bits is its own affair
    assert not ParityReport(in_half, {"one": numbers(0.0, "fp16")}, {"one": numbers(0.5, "fp16")}).failures


def test_a_proof_is_plain_json_and_says_why_there_is_no_second_route() -> None:
    text = json.dumps(ParityReport(ExportSpec(batch=None), {"one": numbers(np.nan)}).to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["form"]["batch"] is None and "onnx2tf" in found["no_second_route"]
    assert found["runtimes"]["one"]["max_abs"] is None and found["runtimes"]["one"]["faults"]


def test_a_run_trained_for_int8_is_not_exported_otherwise(run, tmp_path: Path) -> None:
    model = schema.Model(name="cnn/tiny", quantized=True, weights="runs/float")
    trained = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=model))
    for settings in ({"precision": ("fp32",)}, {"target": "onnx"}, {"precision": ("int8", "fp16")}):
        with pytest.raises(UserError, match="trained for int8"):
            exporter.export_run(trained, tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


def test_a_run_folder_that_knows_nothing_still_gets_a_card(run, tmp_path: Path) -> None:
    data = dataclasses.replace(run.experiment.data, root=str(tmp_path / "gone"))
    moved = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, data=data))
    artifact = tmp_path / "m.tflite"
    artifact.write_bytes(b"network")
    model_card.write_card(
        artifact,
        moved,
        export_spec=ExportSpec(),
        target="tflite",
        parity_report=ParityReport(ExportSpec(), {"one": numbers(0)}),
        speed=None,
    )
    text = (tmp_path / "m_card.md").read_text(encoding="utf-8")
    assert "no longer available" in text and "Not specified (" in text and "holds no metrics.json" in text


def test_a_card_counts_what_earlier_runs_were_trained_on_apart(run, tmp_path: Path) -> None:
    here = dataclasses.replace(run, path=tmp_path)
    clips = tuple(Clip(tmp_path / f"{i}.wav", labels=("toad",)) for i in range(5))
    parts = Partition(Manifest((), CLASSES, Ledger(), tmp_path), clips[:2], (), clips[2:3], inherited=clips[3:])
    write_partition(tmp_path / "partition.csv", parts)
    lines = model_card._data(here)
    assert lines[0] == "- Clips: 2 train, 1 held_out (`partition.csv` of the run)."
    assert lines[1] == "- The runs it was built from were trained on 2 other recordings."
