"""The job of a conversion process: of a network, and of a head with its encoder."""

import json
from pathlib import Path

import foreign_encoders
import pytest
from installed import need
from joined_heads import TFLITE, make_run
from run_to_export import small_run_on

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import read_card
from birdnet_fs.export import conversion
from birdnet_fs.export.encoder_part import encoder_part
from birdnet_fs.export.spec import ExportSpec

need("ai_edge_litert")


def test_a_head_is_joined_with_its_encoder_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = foreign_encoders.write_tflite(tmp_path / "small.tflite", TFLITE.n_samples, TFLITE.width, 9)
    (tmp_path / "small.json").write_text(json.dumps(TFLITE.to_json()))
    run, calls = make_run(tmp_path / "run", file, str(tmp_path / "small.json")), []

    def run_module(module, arguments, *, backend):
        calls.append((module, backend))
        (tmp_path / "fp32.error.txt").write_text("No.\n")

    monkeypatch.setattr(conversion.subprocesses, "run_module", run_module)
    with pytest.raises(UserError, match=r"^No\.$"):
        conversion.write_files(run, [ExportSpec(batch=None)], tmp_path)
    assert calls == [("birdnet_fs.export.tflite.joined", "tensorflow")]
    job = json.loads((tmp_path / "job.json").read_text())
    assert (job["encoder"], job["batch"]) == (str(file), None)
    assert read_card(Path(job["card"])) == TFLITE
    assert conversion.network_title(run, encoder_part(run)) == "linear on A small one"


@pytest.mark.parametrize(("format", "backend"), [("tflite", "tensorflow"), ("onnx", "torch"), ("pt2", "torch")])
def test_a_network_has_no_encoder_in_its_job(tmp_path: Path, monkeypatch, format: str, backend: str) -> None:
    run, calls = small_run_on(tmp_path, tmp_path / "run"), []

    class Done:
        returncode, stderr = 3, "first\nlast line\n"

    def run_module(module, arguments, *, backend):
        calls.append((module, backend))
        return Done

    monkeypatch.setattr(conversion.subprocesses, "run_module", run_module)
    with pytest.raises(UserError, match=r"'cnn/tiny' cannot be written as .* \(exit status 3\): last line"):
        conversion.write_files(run, [ExportSpec(format)], tmp_path)
    room = "tflite" if format == "tflite" else "onnx"
    assert calls == [(f"birdnet_fs.export.{room}.convert", backend)]
    assert "encoder" not in json.loads((tmp_path / "job.json").read_text())
