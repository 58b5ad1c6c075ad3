"""Enrollment on the device, with NumPy and a runtime only, equals enrollment into the run and export."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import soundfile
import tolerances
from installed import need
from receiving import receive

from birdnet_fs import schema
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.encoders.tflite_graph import read_model
from birdnet_fs.export import export as exporter
from birdnet_fs.export.tflite import edit as flatbuffer
from birdnet_fs.fewshot.enrollment import enroll
from birdnet_fs.inference.embed import Embedder, training_mean_embedding
from birdnet_fs.runs.run import Run, build_network, model_weights, save_run

need("tensorflow")
RATE = 16_000
NAMES = ("Parus major_Great Tit", "toad", "wren")
SPEC = schema.FrontEnd(
    sample_rate_hz=RATE,
    segment_s=1.0,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=32,
    fmax_hz=8000.0,
    normalize="z_score",
)


def song(kind: int, seed: int, seconds: float) -> np.ndarray:
    """Calls of one of four kinds, of an individual of its own, in noise."""
    random = np.random.default_rng([kind, seed])
    time_s = np.arange(round(seconds * RATE)) / RATE
    pitch_hz = (900, 1700, 2600, 4000)[kind] * random.uniform(0.95, 1.05)
    call = 0.3 * np.sin(2 * np.pi * (pitch_hz + 200 * kind * time_s) * time_s) * (time_s % 0.4 < 0.1 + 0.05 * kind)
    return (call + 10 ** random.uniform(-2.5, -2) * random.standard_normal(len(time_s))).astype(np.float32)


def write(path: Path, waveform: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """`clips/` with a folder of five clips for each class (one shorter than a segment), `noise/` and a recording."""
    root = tmp_path_factory.mktemp("recordings")
    for kind, name in enumerate(NAMES):
        for i in range(5):
            write(root / "clips" / name / f"{i}.wav", song(kind, i, 0.6 if i == 3 else 1.7))
    for i in range(3):
        write(root / "noise" / f"{i}.wav", song(3, i, 2.3))
    write(root / "long.wav", np.concatenate([song(kind, 9, 1.3) for kind in (1, 0, 2)]))
    return root


def support(folder: Path) -> Manifest:
    return read_manifest(schema.Data(root=str(folder), layout="folders"))


def background(folder: Path) -> list[Clip]:
    return [Clip(path) for path in sorted((folder / "noise").iterdir())]


def make_run(folder: Path, clips: Path, distance: str) -> Run:
    """A run with random weights; "" is a classifier without prototypes."""
    head = schema.Model(name="cnn/tiny", head="prototypes", distance=distance, logit_scale=2.0)
    experiment = schema.Experiment(
        frontend=SPEC,
        model=head if distance else schema.Model(name="cnn/tiny"),
        data=schema.Data(root=str(clips / "clips"), layout="folders"),
    )
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    weights = model_weights(build_network(experiment, 3))
    for name, value in weights.items():
        if name.endswith(("beta", "bias")):
            weights[name] = random.normal(0, 0.1, value.shape).astype(np.float32)
    clips_of_training = support(clips / "clips")
    parts = Partition(
        clips_of_training, clips_of_training.clips[::2], (), ()
    )  # from which a classifier takes its center
    run = save_run(
        folder, experiment, ("x", "y", "z"), weights, write_extra=lambda f: write_partition(f / PARTITION, parts)
    )
    if distance == "cosine":
        weights["logits/centre"] = training_mean_embedding(
            run, model := run.build_model(), Embedder(model, run.frontend)
        )
    return save_run(folder, experiment, ("x", "y", "z"), weights)


class Shipped(NamedTuple):
    run: Run
    enrolled: Run
    folder: Path  # run.tflite, run_fp16.tflite, enrolled.tflite


def ship(folder: Path, clips: Path, distance: str, input: str = "waveform") -> Shipped:
    """A run, the same with two classes and "unknown" enrolled, and both with their embeddings as artifacts."""
    run = make_run(folder / "run", clips, distance)
    two = support(clips / "clips")
    two = dataclasses.replace(two, clips=tuple(clip for clip in two.clips if clip.labels[0] != "toad"))
    enrolled = enroll(run, two, folder / "enrolled", background=background(clips))
    for each, precision in ((run, ("fp32", "fp16")), (enrolled, ("fp32",))):
        exporter.export_run(each, folder / "out", input=input, precision=precision, embeddings=True, n_segments=8)
    return Shipped(run, enrolled, folder / "out")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, clips: Path) -> Shipped:
    return ship(tmp_path_factory.mktemp("cosine"), clips, "cosine")


def scores(done) -> tuple[list[str], np.ndarray]:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["labels"], np.array([segment["logits"] for segment in found["segments"]])


def check_against_the_run(shipped: Shipped, clips: Path, folder: Path) -> None:
    """Two classes into the run's artifact, then the third into that, and into the enrolled run's artifact."""
    long, two, mine = clips / "long.wav", folder / "two", folder / "two.npz"
    for name in NAMES:
        if name != "toad":
            shutil.copytree(clips / "clips" / name, two / name)
    model, quiet = shipped.folder / "run.tflite", ("--background", clips / "noise")
    done = receive("enroll_tflite.py", "enroll", model, two, "-o", mine, *quiet, sound=False)
    assert done.returncode == 0, done.stderr
    expected = scores(receive("run_tflite.py", shipped.folder / "enrolled.tflite", long, "--json", sound=False))
    found = scores(receive("enroll_tflite.py", "score", model, mine, long, "--json", sound=False))
    assert found[0] == expected[0] == ["Parus major_Great Tit", "wren", "unknown"]
    assert expected[1].shape == (4, 3) and np.ptp(expected[1][:, :2]) > 100 * tolerances.ENROLLED_ON_DEVICE
    np.testing.assert_allclose(found[1], expected[1], atol=tolerances.ENROLLED_ON_DEVICE)
    whole = enroll(shipped.run, support(clips / "clips"), folder / "whole", background=background(clips))
    third = folder / "third"
    shutil.copytree(clips / "clips" / "toad", third / "toad")
    network = whole.build_model()
    head = network.get_layer("logits")
    for start in ((model, "--known", mine), (shipped.folder / "enrolled.tflite",)):
        more = folder / "more.npz"
        done = receive("enroll_tflite.py", "enroll", start[0], third, "-o", more, "--overwrite", *start[1:], *quiet)
        assert done.returncode == 0, done.stderr
        with np.load(more, allow_pickle=False) as stored:
            assert tuple(stored["classes"]) == tuple(sorted(NAMES))
            assert float(stored["scale"]) == pytest.approx(
                whole.experiment.logit_scale, rel=tolerances.ENROLLED_ON_DEVICE
            )
            points = stored["prototypes"] + stored["centre"]
            unknown = float(stored["unknown"])
        np.testing.assert_allclose(points, head.prototypes.numpy(), atol=tolerances.ENROLLED_ON_DEVICE)
        assert unknown == pytest.approx(float(head.unknown_logit.numpy()[0]), abs=tolerances.ENROLLED_ON_DEVICE)


def test_enrollment_on_the_device_matches_the_enrolled_run(shipped: Shipped, clips: Path, tmp_path: Path) -> None:
    check_against_the_run(shipped, clips, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "input"),
    [("learned", "waveform"), ("euclidean", "features"), ("", "waveform"), ("learned", "features")],
)
def test_enrollment_on_the_device_matches_for_every_distance(
    clips: Path, tmp_path: Path, distance: str, input: str
) -> None:
    check_against_the_run(ship(tmp_path / "ship", clips, distance, input), clips, tmp_path)


def test_both_outputs_are_named_ordered_and_verified(shipped: Shipped) -> None:
    width = shipped.run.build_model().get_layer("embedding").output.shape[-1]
    proof = json.loads((shipped.folder / "parity.json").read_text())
    for name in ("run", "run_fp16", "enrolled"):
        model = read_model(shipped.folder / f"{name}.tflite")
        (signature,) = model.signatureDefs
        by_name = {bytes(output.name).decode(): output.tensorIndex for output in signature.outputs}
        graph = model.subgraphs[0]
        assert list(graph.outputs) == [by_name["predictions"], by_name["embeddings"]]
        assert list(graph.tensors[by_name["embeddings"]].shape) == [1, width]
        numbers = next(iter(proof[f"{name}.tflite"]["runtimes"].values()))["embeddings"]
        assert numbers["faults"] == [] and 0 < numbers["max_error"] <= numbers["budget"]["max_error"]
        sidecar = json.loads((shipped.folder / f"{name}.json").read_text(encoding="utf-8"))
        second = sidecar["embeddings"]
        assert (second["output"], second["width"]) == (1, width)
        assert (second["enrolment"]["distance"], second["enrolment"]["normalisation"]) == ("cosine", "unit")
        assert second["enrolment"]["scale"] == sidecar["logit_scale"]
        with np.load(shipped.folder / f"{name}_enrolment.npz", allow_pickle=False) as stored:
            assert np.array_equal(stored["centre"], shipped.run.build_model().get_layer("logits").center.numpy())
            assert ("labels" in stored.files) == (name == "enrolled")
        assert "embeddings [1, " in (shipped.folder / f"{name}_card.md").read_text(encoding="utf-8")
    encoders = [
        json.loads((shipped.folder / f"{name}.json").read_text())["embeddings"]["enrolment"]["encoder"]
        for name in ("run", "run_fp16", "enrolled")
    ]
    assert len(set(encoders)) == 1  # their embeddings may be mixed


def test_order_outputs_sorts_the_outputs(shipped: Shipped, tmp_path: Path) -> None:
    file = tmp_path / "run.tflite"
    file.write_bytes((shipped.folder / "run.tflite").read_bytes())
    before = list(read_model(file).subgraphs[0].outputs)
    flatbuffer.order_outputs(file, ["embeddings", "predictions"])
    assert list(read_model(file).subgraphs[0].outputs) == before[::-1]
    with pytest.raises(ValueError, match="must be called predictions"):
        flatbuffer.order_outputs(file, ["predictions"])


def test_check_artifact_compares_embeddings(shipped: Shipped, tmp_path: Path) -> None:
    for name in ("run", "run_fp16", "enrolled"):
        done = receive("check_artifact.py", shipped.folder / f"{name}.tflite")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "golden embeddings" in done.stdout
    shutil.copytree(shipped.folder, tmp_path / "out")
    with np.load(tmp_path / "out" / "run_golden.npz") as stored:
        golden = {**stored, "embeddings": stored["embeddings"] + np.float32(0.1)}
    np.savez_compressed(tmp_path / "out" / "run_golden.npz", **golden)
    with np.load(tmp_path / "out" / "run_enrolment.npz") as stored:
        np.savez_compressed(tmp_path / "out" / "run_enrolment.npz", center=stored["centre"] + np.float32(0.1))
    done = receive("check_artifact.py", tmp_path / "out" / "run.tflite")
    assert done.returncode == 1
    assert "FAIL  golden embeddings" in done.stdout and "FAIL  SHA-256 of what enrollment needs" in done.stdout


def test_float16_export_scores_with_the_same_prototypes(shipped: Shipped, clips: Path, tmp_path: Path) -> None:
    """Prototypes of one export of a network work with another."""
    mine = tmp_path / "mine.npz"
    done = receive("enroll_tflite.py", "enroll", shipped.folder / "run_fp16.tflite", clips / "clips", "-o", mine)
    assert done.returncode == 0, done.stderr
    half, full = (
        scores(
            receive("enroll_tflite.py", "score", shipped.folder / f"{name}.tflite", mine, clips / "long.wav", "--json")
        )[1]
        for name in ("run_fp16", "run")
    )
    with np.load(mine) as stored:
        scale = float(stored["scale"])
    assert np.abs(half - full).max() <= tolerances.EXPORT_FP16_COSINE * scale


def test_unreadable_recordings_are_skipped(shipped: Shipped, clips: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clips / "clips", tmp_path / "clips")
    (folder / "toad" / "8.wav").write_bytes(b"RIFF nothing")
    write(folder / "toad" / "9.wav", np.zeros(RATE, np.float32))
    write(folder / "loose.wav", song(0, 1, 1.0))
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    model, mine = shipped.folder / "run.tflite", tmp_path / "mine.npz"
    done = receive("enroll_tflite.py", "enroll", model, folder, "-o", mine)
    assert done.returncode == 0, done.stderr
    for name, word in (("8.wav", "skipped"), ("9.wav", "silent"), ("loose.wav", "no class folder")):
        assert any(name in line and word in line for line in done.stderr.splitlines()), done.stderr
    done = receive("enroll_tflite.py", "score", model, mine, nan, clips / "long.wav", "--json")
    assert done.returncode == 1 and f"{nan} holds NaN" in done.stderr
    assert len(done.stdout.splitlines()) == 1 and json.loads(done.stdout)["file"] == str(clips / "long.wav")
    text = receive("enroll_tflite.py", "score", model, mine, clips / "long.wav", "--top", 2).stdout
    assert len(text.splitlines()) == 4 and text.splitlines()[0].split()[:2] == ["0.00", "1.00"]


def test_a_clip_is_not_counted_twice(shipped: Shipped, clips: Path, tmp_path: Path) -> None:
    model, first, again = shipped.folder / "run.tflite", tmp_path / "first.npz", tmp_path / "again.npz"
    folder = shutil.copytree(clips / "clips", tmp_path / "clips")
    assert receive("enroll_tflite.py", "enroll", model, folder, "-o", first, "--n_clips", 4).returncode == 0
    done = receive("enroll_tflite.py", "enroll", model, folder, "-o", again, "--known", first, "--extend")
    assert done.returncode == 0 and done.stderr.count("is not counted twice") == 12
    with np.load(again, allow_pickle=False) as stored:
        assert len(set(stored["files"].tolist())) == len(stored["files"]) == 15
    done = receive(
        "enroll_tflite.py", "enroll", model, "-o", again, "--overwrite", "--known", first, "--remove", "toad"
    )
    assert done.returncode == 0 and "3 classes: Parus major_Great Tit, wren, unknown" in done.stdout


@pytest.fixture(scope="module")
def faulty(shipped: Shipped, clips: Path, tmp_path_factory) -> Path:
    """Artifacts and folders with a fault each, beside a file of prototypes that is right."""
    root = tmp_path_factory.mktemp("faulty")
    right = root / "right.npz"
    assert (
        receive("enroll_tflite.py", "enroll", shipped.folder / "run.tflite", clips / "clips", "-o", right).returncode
        == 0
    )
    with np.load(right) as stored:
        values = dict(stored)
    narrow = {k: v[..., :7] if k in ("prototypes", "centre", "embeddings") else v for k, v in values.items()}
    np.savez(root / "narrow.npz", **narrow)
    np.savez(root / "other.npz", **{**values, "encoder": np.array("0" * 64)})
    np.savez(root / "short.npz", **{**values, "labels": values["labels"][:3]})
    np.savez(root / "pickled.npz", **{**values, "labels": np.array(["a", {}], object)})
    (root / "text.npz").write_text("not a file of arrays")
    for name in ("without", "frames", "gone", "changed"):
        for file in shipped.folder.glob("run[._]*"):
            if "fp16" not in file.name:
                shutil.copy(file, root / file.name.replace("run", name, 1))
        sidecar = json.loads((root / f"{name}.json").read_text(encoding="utf-8"))
        if name == "without":
            del sidecar["embeddings"]
        elif name == "frames":
            sidecar["embeddings"]["enrolment"] = None
        (root / f"{name}.json").write_text(json.dumps(sidecar), encoding="utf-8")
    (root / "gone_enrolment.npz").unlink()
    np.savez(root / "changed_enrolment.npz", center=np.zeros(3))
    write(root / "silent" / "mute" / "0.wav", np.zeros(RATE, np.float32))
    write(root / "named" / "unknown" / "0.wav", song(0, 0, 1.0))
    shutil.copytree(clips / "clips" / "toad", root / "twice" / "toad")
    shutil.copytree(clips / "clips" / "toad", root / "alone" / "toad")
    (root / "empty").mkdir()
    write(root / "loose" / "0.wav", song(0, 0, 1.0))
    return root


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "CLIPS", "--n_clips", "6"], "6 clips of 'Parus major_Great Tit' are required"),
        (["RUN", "CLIPS", "--n_clips", "0"], "1 or more"),
        (["RUN", "silent"], "No clip of 'mute' can be used"),
        (["RUN", "twice", "--known", "right.npz"], "'toad' is a class already"),
        (["ENROLLED", "CLIPS"], "is a class already"),
        (["RUN", "twice", "--known", "narrow.npz"], "width 7 and the network gives 48"),
        (["RUN", "twice", "--known", "other.npz"], "made with another network"),
        (["RUN", "twice", "--known", "short.npz"], "does not support"),
        (["RUN", "twice", "--known", "pickled.npz"], "pickled.npz is missing or damaged"),
        (["RUN", "twice", "--known", "text.npz"], "text.npz is missing or damaged"),
        (["RUN", "twice", "--known", "none.npz"], "does not exist"),
        (["without.tflite", "CLIPS"], "--embeddings"),
        (["frames.tflite", "CLIPS"], "reads frames"),
        (["gone.tflite", "CLIPS"], "gone_enrolment.npz is missing"),
        (["changed.tflite", "CLIPS"], "SHA-256 differs"),
        (["RUN", "named"], "is not the name of a class"),
        (["RUN", "empty"], "holds none"),
        (["RUN", "nowhere"], "must be a folder"),
        (["RUN", "alone", "--no-unknown"], "Two or more classes"),
        (["RUN", "alone", "--n_clips", "1"], "one clip of one class"),
        (["RUN", "CLIPS", "--background", "empty"], "readable recordings"),
        (["RUN", "--known", "right.npz", "--remove", "ghost"], "must name an enrolled class"),
        (["RUN"], "Nothing to do"),
    ],
)
def test_invalid_input_gives_one_sentence_and_no_file(
    shipped: Shipped, clips: Path, faulty: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    places = {"RUN": shipped.folder / "run.tflite", "ENROLLED": shipped.folder / "enrolled.tflite"}
    places["CLIPS"] = clips / "clips"
    known = {path.name for path in faulty.iterdir()} | {"nowhere", "none.npz"}
    given = [places.get(a, faulty / a if a in known else a) for a in arguments]
    done = receive("enroll_tflite.py", "enroll", *given, "-o", tmp_path / "new.npz")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_prototypes_of_another_network_are_refused(shipped: Shipped, clips: Path, faulty: Path) -> None:
    model, long = shipped.folder / "run.tflite", clips / "long.wav"
    for name, said in (("narrow.npz", "width 7"), ("other.npz", "another network")):
        done = receive("enroll_tflite.py", "score", model, faulty / name, long)
        assert done.returncode == 2 and said in done.stderr and not done.stdout
    assert receive("enroll_tflite.py", "score", model, faulty / "right.npz", "none.wav").returncode == 2
