"""From recordings to a file on a device with an encoder that has the inputs and outputs of Perch v2, TFLite and ONNX.

The stand-in (perch_stand_in.py) averages pieces of 100 samples, so that it answers to waves below 160 Hz only. The head
"attentive" reads its tokens, one for each of 16 steps in time.
"""

import csv
import json
from pathlib import Path

import numpy as np
import perch_stand_in
import pytest
import soundfile
from command_line import birdnet_fs
from installed import need
from receiving import receive

RATE_HZ, SEGMENT_S = 32_000, 5.0
WAVES_HZ = {"owl": 29.0, "tit": 67.0, "wren": 131.0}
RUNTIMES = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}


def recording(wave_hz: float, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A slow wave with a phase of its own, in noise."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = np.sin(2 * np.pi * (wave_hz * times + rng.uniform()))
    return (0.3 * wave + 0.05 * rng.normal(size=len(times))).astype(np.float32)


def write_recordings(folder: Path, numbers: range, *, in_folders: bool) -> Path:
    for kind, wave_hz in WAVES_HZ.items():
        for number in numbers:
            rng = np.random.default_rng((list(WAVES_HZ).index(kind), number))
            place = folder / kind if in_folders else folder
            place.mkdir(parents=True, exist_ok=True)
            soundfile.write(place / f"{kind}{number}.flac", recording(wave_hz, rng, 5.0 * (1 + number % 2)), RATE_HZ)
    return folder


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNTIMES)
def test_from_recordings_to_a_file_on_a_device(kind: str, tmp_path: Path) -> None:
    need(RUNTIMES[kind])
    need("tensorflow" if kind == "tflite" else "onnx")
    encoder = getattr(perch_stand_in, f"write_{kind}")(tmp_path / f"perch.{kind}")
    write_recordings(tmp_path / "recordings", range(5), in_folders=True)
    write_recordings(tmp_path / "season", range(5, 7), in_folders=False)
    (tmp_path / "season" / "broken.flac").write_bytes(b"no audio at all")

    def run(*arguments: object, check: bool = True):
        return birdnet_fs(*arguments, cwd=tmp_path, check=check)

    # the file fits two cards, so that one has to be named
    said = run("encoders", encoder, check=False)
    assert "perch_v2_peak" in said.stdout + said.stderr and "perch_v2" in said.stdout + said.stderr
    run("init")
    train = ("train", "config.py:my_recordings_encoder", "data.root=recordings", f"model.encoder={encoder.name}")
    refused = run(*train, "-o", "run", check=False)
    assert refused.returncode == 2 and "perch_v2_peak" in refused.stderr and not (tmp_path / "run").exists()

    # all heads on embeddings are tried; the report and the tables are those of any run
    run(*train, "model.encoder_card=perch_v2", "model.head=auto", "-o", "run")
    choices = json.loads((tmp_path / "run" / "encoder.json").read_text())["choices"]
    assert {row["head"] for row in choices["candidates"]} == {
        "prototypes", "linear", "cosine", "mlp", "probe",
    }  # fmt: skip
    run("evaluate", "run", "recordings", "-o", "seen")
    assert json.loads((tmp_path / "seen" / "metrics.json").read_text())["macro_auroc"] == 1.0  # they were trained on
    run("analyze", "run", "season", "-o", "tables", "--rtype", "csv")
    ledger = {row["path"]: row["status"] for row in rows_of(tmp_path / "tables" / "ledger.csv")}
    assert sum(status == "ok" for status in ledger.values()) == 6
    assert {status for path, status in ledger.items() if "broken" in path} == {"quarantined"}
    for name in WAVES_HZ:
        (table,) = (tmp_path / "tables").glob(f"{name}5*.csv")
        found = rows_of(table)
        assert found and all(name in row.values() for row in found), (name, found)

    # the store of the encoder, searched by a class of the run and analyzed without audio
    run("embed", encoder.name, "season", "-o", "store", "--card", "perch_v2")
    run("search", "store", "run:tit", "--recordings", "season", "--top", 2, "-o", "found")
    assert {row["recording"].rpartition("/")[2][:3] for row in rows_of(tmp_path / "found" / "neighbors.csv")} == {"tit"}
    run("analyze", "run", "store", "-o", "of_store", "--rtype", "csv")
    assert (tmp_path / "of_store" / "ledger.csv").is_file()

    # joined behind the encoder, with parity against the run, and in the program of the receiving side; once more with a
    # head on its tokens
    run(*train, "model.encoder_card=perch_v2", "model.head=attentive", "-o", "places")
    for trained in ("run", "places"):
        device = tmp_path / f"device_of_{trained}"
        run("export", trained, "--target", kind, "--audio", "season", "--n_segments", 8, "-o", device)
        parity = json.loads((device / "parity.json").read_text())
        runtimes = next(iter(parity.values()))["runtimes"]
        assert runtimes and all(not result["faults"] for result in runtimes.values())
        (artifact,) = device.glob(f"*.{kind}")
        for name in WAVES_HZ:
            done = receive(f"run_{kind}.py", artifact, tmp_path / "season" / f"{name}5.flac", "--top", "1")
            assert done.returncode == 0, done.stderr
            lines = [line for line in done.stdout.splitlines() if any(each in line for each in WAVES_HZ)]
            assert lines and all(name in line for line in lines), done.stdout
