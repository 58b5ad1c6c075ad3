"""Three species from five clips each on BirdNET V2.4, exported as one file: the `birdnet` package gives our scores."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tolerances
from installed import need
from joined_heads import make_run
from other_pythons import python_with
from real_birdnet import birdnet_v2_4
from receiving import receive

from birdnet_fs import schema
from birdnet_fs.audio.read import read_audio
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.encoders.open import open_encoder
from birdnet_fs.encoders.reference import read_encoders
from birdnet_fs.export.export import Artifact, export_run
from birdnet_fs.export.runtimes import birdnet_host
from birdnet_fs.fewshot.base import write_encoder_base
from birdnet_fs.fewshot.enrollment import enroll
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.shared]
need("tensorflow")
SPECIES, N_CLIPS = ("Junco hyemalis", "Passer domesticus", "Zonotrichia leucophrys"), 5
MAX_BYTES = 25_200_000  # the encoder without its classifier has 24,987,628
RATE_HZ, N_SAMPLES = 48_000, 144_000


class Shipped(NamedTuple):
    run: Run
    made: list[Artifact]  # fp32, fp16 and dynamic, with embeddings
    rest: list[Clip]  # recordings of the species that were not enrolled


@pytest.fixture(scope="module")
def shipped(shared_data: Path, tmp_path_factory) -> Shipped:
    folder, encoder = tmp_path_factory.mktemp("birdnet"), birdnet_v2_4()
    data = schema.Data(root=str(shared_data), table="metadata.csv", where="set=birds10", label_column="label")
    found = read_manifest(data)
    by_species = [[clip for clip in found.clips if clip.labels == (name,)] for name in SPECIES]
    chosen = dataclasses.replace(found, clips=tuple(clip for clips in by_species for clip in clips[:N_CLIPS]))
    assert len(chosen.clips) == len(SPECIES) * N_CLIPS
    base = write_encoder_base(schema.Model(encoder=str(encoder)), chosen.clips, folder / "base")
    run = enroll(base, chosen, folder / "three")
    precisions = ("fp32", "fp16", "dynamic")
    made = export_run(
        run,
        folder / "out",
        target="birdnet",
        precision=precisions,
        embeddings=True,
        audio=shared_data / "audio",
        n_segments=24,
    )
    return Shipped(run, made, [clip for clips in by_species for clip in clips[N_CLIPS:]])


def first_windows(files: list[Path]) -> np.ndarray:
    """float32 [n, N_SAMPLES]."""
    rows = [read_audio(file, sample_rate_hz=RATE_HZ, duration_s=3.0).waveform for file in files]
    return np.stack([np.pad(row, (0, N_SAMPLES - len(row))) for row in rows])


@pytest.fixture(scope="module")
def waveforms(shipped: Shipped) -> np.ndarray:
    """The first window of each recording that was not enrolled, float32 [n, N_SAMPLES]."""
    return first_windows([clip.path for clip in shipped.rest])


def test_the_file_is_as_exact_and_as_small_as_promised(shipped: Shipped) -> None:
    exact, half, eighth = shipped.made
    assert exact.n_bytes <= MAX_BYTES and half.n_bytes <= 0.52 * MAX_BYTES and eighth.n_bytes <= 0.3 * MAX_BYTES
    parity = next(iter(exact.parity_report.by_runtime.values()))
    assert parity.max_abs <= tolerances.JOINED_BIRDNET and parity.by_batch[3] <= tolerances.JOINED_BIRDNET
    assert parity.embeddings is not None and parity.embeddings.width == 1024
    text = exact.path.with_name(f"{exact.path.stem}_card.md").read_text(encoding="utf-8")
    assert "BirdNET GLOBAL 6K V2.4: **CC BY-NC-SA 4.0**" in text


@pytest.mark.parametrize("batch", [1, 8])
def test_the_birdnet_package_gives_our_probabilities(
    shipped: Shipped, waveforms: np.ndarray, tmp_path: Path, batch: int
) -> None:
    artifact, rows, found = shipped.made[0].path, tmp_path / "rows.npy", tmp_path / "found.npz"
    np.save(rows, waveforms)
    labels = artifact.with_name(f"{artifact.stem}_Labels.txt")
    python = python_with("birdnet", "requirements-birdnet.txt")
    command = [python, "-I", birdnet_host.__file__, artifact, labels, rows, found, "--batch", batch, "--embeddings"]
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    wanted = open_engine(shipped.run.path).probabilities(waveforms)
    assert np.ptp(wanted[:, :3], axis=0).min() > 0.5  # else closeness would show nothing
    with np.load(found, allow_pickle=False) as stored:
        assert str(stored["version"]) == "2.4" and stored["embeddings"].shape == (len(waveforms), 1024)
        assert np.abs(stored["scores"] - wanted).max() <= tolerances.JOINED_BIRDNET_HOST


def test_a_head_that_reads_scores_of_the_encoder_is_as_exact_and_hardly_larger(
    shared_data: Path, tmp_path: Path
) -> None:
    """The weights of the last layer of BirdNET for three species are 12 kB."""
    run = make_run(tmp_path / "run", birdnet_v2_4(), classes=SPECIES, own_scores="blend")
    assert len(read_encoders(run.path).own_columns) == len(SPECIES)
    options = {"embeddings": True, "audio": shared_data / "audio", "n_segments": 24}
    [made] = export_run(run, tmp_path / "out", target="birdnet", **options)
    assert made.n_bytes <= MAX_BYTES
    parity = next(iter(made.parity_report.by_runtime.values()))
    assert parity.max_abs <= tolerances.JOINED_BIRDNET_OWN and parity.by_batch[3] <= tolerances.JOINED_BIRDNET_OWN
    assert parity.embeddings is not None and parity.embeddings.width == 1024
    text = made.path.with_name(f"{made.path.stem}_card.md").read_text(encoding="utf-8")
    assert "The head reads its own scores of 3 classes as well: Junco hyemalis" in text
    files = [next((shared_data / "audio").glob(f"birds10_{name.lower().replace(' ', '_')}_*")) for name in SPECIES]
    waveforms = first_windows(files)
    encoder = open_encoder(birdnet_v2_4(), scores=True)
    logits = encoder.embed_and_logits(waveforms)[1][:, list(read_encoders(run.path).own_columns)]
    assert np.ptp(logits, axis=0).min() > 5  # else closeness would show nothing
    assert np.abs(open_engine(made.path).forward(waveforms) - open_engine(run.path).forward(waveforms)).max() <= (
        tolerances.JOINED_BIRDNET_OWN
    )


def test_the_device_scripts_check_score_and_enroll(shipped: Shipped, tmp_path: Path) -> None:
    model, file = shipped.made[0].path, shipped.rest[0].path
    done = receive("check_artifact.py", model)
    assert done.returncode == 0, done.stdout + done.stderr
    done = receive("run_tflite.py", model, file, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)["segments"][0]["logits"]
    waveform = read_audio(file, sample_rate_hz=RATE_HZ).waveform[:N_SAMPLES]
    ours = open_engine(shipped.run.path).probabilities(waveform[None])[0]
    assert np.abs(1 / (1 + np.exp(-np.array(first))) - ours).max() <= tolerances.JOINED_BIRDNET_HOST
    for clip in shipped.rest[:2]:
        (tmp_path / "clips" / "another").mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / "another" / clip.path.name).write_bytes(clip.path.read_bytes())
    done = receive("enroll_tflite.py", "enroll", model, tmp_path / "clips", "-o", tmp_path / "mine.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"5 classes: {', '.join(SPECIES)}, another, unknown")
