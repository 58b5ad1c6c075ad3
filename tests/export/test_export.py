"""Export of a run: files equal to the run, complete or absent, readable with NumPy and one runtime."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from installed import need
from killed import contents, killed_at_every_change, leftovers, sampled, small_disk
from receiving import BLOCKER, FRAMEWORKS, receive
from run_to_export import CLASSES, SPEC, make_run, small_run_on, write_recordings
from safetensors.numpy import load_file, save_file

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.export import conversion, convert_and_verify
from birdnet_fs.export import export as exporter
from birdnet_fs.export.parity import compare as parity
from birdnet_fs.export.parity import embeddings
from birdnet_fs.export.parity.inputs import EDGE_NAMES
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.runs.run import WEIGHTS, Run, load_run

need("tensorflow")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, recordings: Path) -> Run:
    return small_run_on(recordings, tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def exported(run: Run, recordings: Path, tmp_path_factory) -> dict[str, Path]:
    """The output folder by input; conversions are slow, so every test shares these two."""
    found = {}
    for way in ("waveform", "features"):
        found[way] = tmp_path_factory.mktemp("out") / way
        exporter.export_run(run, found[way], input=way, precision=("fp32", "fp16"), audio=recordings, n_segments=12)
    return found


@pytest.fixture(scope="module")
def expected(run: Run, recordings: Path) -> tuple[Path, np.ndarray]:
    """A recording of 2.5 s and the run's own logits of its three segments, the last one padded."""
    file = recordings / CLASSES[2] / "1.wav"
    waveform = np.pad(soundfile.read(file, dtype="float32")[0], (0, 8_000)).reshape(3, 16_000)
    features = np.repeat(log_mel(waveform, SPEC)[..., None], SPEC.n_channels, axis=-1)
    return file, np.asarray(run.build_model().predict_on_batch(features))


def names(precision: str) -> str:
    return {"fp32": "small.tflite", "fp16": "small_fp16.tflite"}[precision]


def test_the_blocker_blocks() -> None:
    tries = "".join(f"\ntry:\n    import {n}\nexcept ImportError as e:\n    print(e)" for n in FRAMEWORKS)
    done = subprocess.run([sys.executable, "-I", "-c", BLOCKER + tries], capture_output=True, text=True, check=True)
    assert done.stdout.count("must not be imported here") == len(FRAMEWORKS)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", tolerances.EXPORT_FP32_LOGITS), ("fp16", tolerances.EXPORT_FP16_LOGITS)],
)
@pytest.mark.parametrize("way", ["waveform", "features"])
def test_reader_matches_the_logits_of_the_run(exported, expected, way, precision, tolerance) -> None:
    file, logits = expected
    done = receive("run_tflite.py", exported[way] / names(precision), file, "--json")
    assert done.returncode == 0, done.stderr
    given = json.loads(done.stdout)
    assert given["labels"] == list(CLASSES)
    assert [s["start_s"] for s in given["segments"]] == [0, 1, 2]
    assert np.ptp(logits) > 0.5  # else closeness would show nothing
    assert np.abs(np.array([s["logits"] for s in given["segments"]]) - logits).max() <= tolerance


def test_reader_prints_times_and_names(exported, expected) -> None:
    done = receive("run_tflite.py", exported["waveform"] / "small.tflite", expected[0], "--top", 2)
    first = done.stdout.splitlines()[0].split(maxsplit=2)
    assert (float(first[0]), float(first[1])) == (0, 1)
    assert first[2].count(",") == 1 and any(name in first[2] for name in ("Blackbird", "Great Tit", "toad"))


@pytest.mark.parametrize("way", ["waveform", "features"])
def test_folder_holds_the_files_of_every_precision(run: Run, exported, way: str) -> None:
    endings = [".tflite", ".json", "_Labels.txt", "_card.md", "_golden.npz"]
    endings += ["_frontend.npz"] if way == "features" else []
    folder = exported[way]
    expected = {f"{stem}{e}" for stem in ("small", "small_fp16") for e in endings}
    assert {p.name for p in folder.iterdir()} == expected | {"parity.json"}
    sidecar = json.loads((folder / "small.json").read_text(encoding="utf-8"))
    assert sidecar["classes"] == list(CLASSES)
    assert sidecar["input_shape"] == ([1, 16_000] if way == "waveform" else [1, 63, 32, 2])
    assert schema.FrontEnd.from_artifact(sidecar["frontend"]) == SPEC
    proof = json.loads((folder / "parity.json").read_text())
    assert set(proof) == {"small.tflite", "small_fp16.tflite"}
    first, *others = proof["small.tflite"]["runtimes"].items()
    assert first[0].startswith("ai-edge-litert ") and not others
    numbers = first[1]
    assert numbers["n_segments"] == 12 and numbers["faults"] == [] and numbers["max_abs"] <= 1e-4
    with np.load(folder / "small_golden.npz", allow_pickle=False) as golden:
        assert golden["waveforms"].shape == (len(EDGE_NAMES), 16_000) and golden["logits"].shape == (len(EDGE_NAMES), 3)
    assert sidecar["sha256"] in (folder / "small_card.md").read_text(encoding="utf-8")


def test_scoring_opens_the_artifact(exported, expected) -> None:
    """The package's own reader agrees as well."""
    from birdnet_fs.inference.open import open_engine

    file, logits = expected
    waveform = np.pad(soundfile.read(file, dtype="float32")[0], (0, 8_000)).reshape(3, 16_000)
    for way in exported:
        given = open_engine(exported[way] / "small.tflite").forward(waveform)
        assert np.abs(given - logits).max() <= tolerances.EXPORT_FP32_LOGITS


def test_sigmoid_of_log_odds_export_is_the_softmax_of_the_run(recordings: Path, tmp_path: Path) -> None:
    from birdnet_fs.frontend import preset
    from birdnet_fs.inference.open import open_engine

    experiment = schema.Experiment(
        name="softmax",
        frontend=preset("birdnet_3s_48k"),
        model=schema.Model(name="cnn/tiny"),
        data=schema.Data(root="-"),
    )
    run = make_run(tmp_path / "run", experiment, CLASSES)
    (made,) = exporter.export_run(run, tmp_path / "out", target="birdnet-go", audio=recordings, n_segments=6)
    sidecar = json.loads(made.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert (sidecar["output"], sidecar["activation"], sidecar["one_label"]) == ("logits", "sigmoid", True)
    waveform = np.random.default_rng(2).normal(0, 0.1, (3, 144_000)).astype(np.float32)
    wanted, engine = open_engine(tmp_path / "run").probabilities(waveform), open_engine(made.path)
    assert np.abs(wanted.sum(axis=1) - 1).max() <= tolerances.ACTIVATION and np.ptp(wanted, axis=1).min() > 0.1
    sigmoid = 1 / (1 + np.exp(-engine.forward(waveform)))  # as the program does it
    for found in (sigmoid, engine.probabilities(waveform)):
        assert np.abs(found - wanted).max() <= tolerances.EXPORT_FP32_LOGITS
    assert not engine.multi_label
    done = receive("check_artifact.py", made.path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "log-odds" in made.path.with_name(f"{made.path.stem}_card.md").read_text(encoding="utf-8")


def test_any_batch_opens_the_batch(run: Run, recordings: Path, tmp_path: Path) -> None:
    (made,) = exporter.export_run(
        run, tmp_path, input="features", any_batch=True, name="open", audio=recordings, n_segments=6
    )
    assert json.loads((tmp_path / "open.json").read_text(encoding="utf-8"))["input_shape"] == [None, 63, 32, 2]
    assert all(set(numbers.by_batch) == {3} for numbers in made.parity_report.by_runtime.values())
    done = receive("check_artifact.py", made.path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_float16_halves_the_network_and_leaves_the_front_end(exported) -> None:
    sizes = {(w, p): (exported[w] / names(p)).stat().st_size for w in exported for p in ("fp32", "fp16")}
    assert sizes["features", "fp16"] < 0.62 * sizes["features", "fp32"]
    front_end = {p: sizes["waveform", p] - sizes["features", p] for p in ("fp32", "fp16")}
    bands = 4 * (SPEC.n_fft // 2) * SPEC.n_mels  # its largest matrix alone
    assert front_end["fp32"] > bands and abs(front_end["fp16"] - front_end["fp32"]) < 0.05 * bands


def test_check_artifact_passes_and_finds_tampering(exported, tmp_path: Path) -> None:
    for way in exported:
        for precision in ("fp32", "fp16"):
            done = receive("check_artifact.py", exported[way] / names(precision))
            assert done.returncode == 0, done.stdout + done.stderr
            assert "FAIL" not in done.stdout
    model = tmp_path / "small.tflite"
    for path in exported["features"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    front = tmp_path / "small_frontend.npz"
    with np.load(front) as stored:
        np.savez_compressed(front, **{k: stored[k] * (1.5 if k == "bands" else 1) for k in stored.files})
    done = receive("check_artifact.py", model)
    assert done.returncode == 1 and "FAIL  SHA-256 of the front-end" in done.stdout
    with np.load(tmp_path / "small_golden.npz") as stored:
        golden = {**stored, "logits": stored["logits"] + np.float32(2e-3)}
    np.savez_compressed(tmp_path / "small_golden.npz", **golden)
    assert "FAIL  golden logits" in receive("check_artifact.py", model).stdout
    (tmp_path / "small_Labels.txt").write_text("a_a\nb_b\n", encoding="utf-8")
    done = receive("check_artifact.py", model)
    assert done.returncode == 2 and "do not belong together" in done.stderr


def test_reader_refuses_missing_files_and_nan(exported, tmp_path: Path) -> None:
    model = exported["waveform"] / "small.tflite"
    missing = receive("run_tflite.py", model, tmp_path / "none.wav")
    assert missing.returncode == 2 and "does not exist" in missing.stderr
    alone = tmp_path / "alone.tflite"
    alone.write_bytes(model.read_bytes())
    done = receive("run_tflite.py", alone, tmp_path / "none.wav")
    assert done.returncode == 2 and "alone.json is missing" in done.stderr
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    assert "NaN" in receive("run_tflite.py", model, tmp_path / "nan.wav").stderr


def test_wrong_front_end_is_refused_and_nothing_is_written(run: Run, recordings: Path, tmp_path, monkeypatch) -> None:
    """One constant off by a little: 100 Hz in the lowest edge of the bands."""
    right = conversion.conversion_job

    def wrong(*arguments):
        job = right(*arguments)
        return {**job, "frontend": {**job["frontend"], "fmin_hz": 150.0}}

    real = exporter.convert_and_verify

    def quick_fallback(run, probe, forms, *others, **settings):
        if forms[0].input == "waveform" and forms[0].precision != "fp32":
            raise UserError("not tried here")
        return (real if forms[0].input == "waveform" else fake_conversion)(run, probe, forms, *others, **settings)

    monkeypatch.setattr(conversion, "conversion_job", wrong)
    monkeypatch.setattr(exporter, "convert_and_verify", quick_fallback)
    with pytest.raises(UserError, match="parity failed") as caught:
        exporter.export_run(run, tmp_path / "out", audio=recordings, n_segments=6)
    assert "tolerance 0.0003" in str(caught.value)
    assert "--input features --precision fp32" in str(caught.value)  # what was tried next
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in run.path.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(run.path / WEIGHTS)
    weights["logits/bias"] = weights["logits/bias"] * np.float32(np.nan)
    save_file(weights, broken / WEIGHTS)
    with pytest.raises(UserError, match="finite; 'logits/bias'"):
        exporter.export_run(load_run(broken), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["broken"]


def fake_conversion(run: Run, probe, forms, work: Path, environments, **settings):
    """Replaces conversion and runtime where only the files matter."""
    random = np.random.default_rng(0)
    answers = [random.normal(size=(len(probe.waveforms), n)).astype(np.float32) for n in (len(run.classes), 48)]
    proofs = {}
    for form in forms:
        (work / f"{form.precision}.tflite").write_bytes(b"new " + form.precision.encode())
        numbers = parity.compare_outputs(answers[0], answers[0], probe, form.precision, "softmax")
        if "embeddings" in form.outputs:
            numbers = numbers.with_embeddings(
                embeddings.compare_embeddings(answers[1], answers[1], form.precision, len(EDGE_NAMES))
            )
        proofs[form.precision] = convert_and_verify.ParityReport(form, {"fake": numbers})
    return proofs, answers[: len(forms[0].outputs)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion, runtime and clock are replaced, as only the files matter."""
    monkeypatch.setattr(exporter, "convert_and_verify", fake_conversion)
    monkeypatch.setattr(exporter, "measure_speed", lambda artifact: None)


@sampled(30)
def test_a_kill_while_an_export_is_replaced_leaves_the_old_or_the_new_one(
    run: Run, recordings: Path, tmp_path: Path, quick: None, every: int
) -> None:
    out = tmp_path / "runs" / "out"

    def export(precision: str = "fp32,fp16", **options: object) -> None:
        exporter.export_run(run, out, audio=recordings, n_segments=2, precision=precision.split(","), **options)

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        export(embeddings=True)
        (out / "small.tflite").write_bytes(b"old")
        for name in ("small_frontend.npz", "other.txt", "models/blackbird.tflite"):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(b"before")

    prepare()
    old = contents(out)
    export("fp32")
    new, found = contents(out), []
    assert new["small.tflite"] == b"new fp32" and set(old) - set(new) == {"small_frontend.npz", "small_enrolment.npz"}
    for n in killed_at_every_change(tmp_path, prepare, lambda: export("fp32"), every=every):
        now = contents(out)
        assert now in (old, new), n
        found.append(now == new)
        export("fp32")
        assert contents(out) == new and leftovers(tmp_path) == [], n
    assert len(found) >= 60 // every and (every > 1 or set(found) == {True, False})


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_output_is_unchanged_when_a_step_fails(
    run: Run, recordings: Path, tmp_path: Path, monkeypatch, quick: None, error: type[BaseException], before: bool
) -> None:
    out = tmp_path / "out"
    if before:
        exporter.export_run(run, out, audio=recordings, n_segments=2)
    was = contents(out)

    def fails(*_: object, **__: object) -> None:
        raise error("interrupted here")

    for step in ("model_card.write_card", "sidecars.write_parity", "companion_files.write_companion_files"):
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(f"birdnet_fs.export.export.{step}", fails)
            exporter.export_run(run, out, audio=recordings, n_segments=2, precision=("fp32", "fp16"))
        assert contents(out) == was and [p.name for p in tmp_path.iterdir()] == (["out"] if before else [])


def test_a_full_disk_is_named_and_keeps_the_earlier_export(
    run: Run, recordings: Path, tmp_path: Path, quick: None
) -> None:
    with small_disk(tmp_path / "disk") as resize:
        out = tmp_path / "disk" / "out"
        exporter.export_run(run, out, audio=recordings, n_segments=2)
        was = contents(out)
        used = sum(-(-file.stat().st_blocks // 8) * 4 for file in (tmp_path / "disk").rglob("*"))
        for kib in range(used, used + 60, 12):
            resize(kib)
            with pytest.raises(OSError, match="No space left on device") as caught:
                exporter.export_run(run, out, audio=recordings, n_segments=2, precision=("fp32", "fp16"))
            assert caught.value.filename == str(out)
            assert contents(out) == was and leftovers(tmp_path) == []


def test_nothing_is_left_after_a_signal(run: Run, recordings: Path, tmp_path: Path) -> None:
    code = "from birdnet_fs.cli.main import main; main()"
    command = ["export", str(run.path), "-o", str(tmp_path / "out"), "--audio", str(recordings), "--n_segments", "4"]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        for line in process.stderr:
            if line.startswith("Converting"):
                assert list(tmp_path.iterdir())  # the temporary folder
                process.send_signal(signal.SIGTERM)
                break
        assert process.wait(60) == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target": "tflit"}, "Did you mean 'tflite'"),
        ({"precision": ("int4",)}, "fp32, fp16, dynamic, int8"),
        ({"precision": ()}, "one or more"),
        ({"input": "wave"}, "Did you mean 'waveform'"),
        ({"name": "a/b"}, "plain file name"),
        ({"n_segments": 1}, "2 or more"),
    ],
)
def test_unsupported_options_are_named(run: Run, tmp_path: Path, wrong: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        exporter.export_run(run, tmp_path / "out", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporter.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "birdnet_fs\[export\]"'):
        exporter.export_run(run, tmp_path / "out")


def test_quantized_run_is_exported_as_int8_tflite_only(run, tmp_path: Path) -> None:
    model = schema.Model(name="cnn/tiny", quantized=True, weights="runs/float")
    trained = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=model))
    for settings in ({"precision": ("fp32",)}, {"target": "onnx"}, {"precision": ("int8", "fp16")}):
        with pytest.raises(UserError, match="trained for int8"):
            exporter.export_run(trained, tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.shared
def test_efficientnet_matches_on_real_recordings(shared_data: Path, tmp_path: Path) -> None:
    from birdnet_fs.frontend import preset

    experiment = schema.Experiment(
        name="b0",
        frontend=preset("birdclef2025"),
        model=schema.Model(name="efficientnet_v2/b0"),
        data=schema.Data(root=str(shared_data), table="metadata.csv", where="set=birds10", segment_hop_s=1.0),
    )
    from birdnet_fs.data.manifest import read_manifest

    b0 = make_run(tmp_path / "b0", experiment, read_manifest(experiment.data).classes)
    artifacts = exporter.export_run(b0, tmp_path / "out", precision=("fp32", "fp16"), n_segments=200)
    for artifact in artifacts:
        numbers = artifact.parity_report.parity
        print(f"{numbers.precision}: {numbers}")
        assert numbers.source == "run" and numbers.auroc_reference is not None
        assert numbers.n_segments == 200
    assert artifacts[0].parity_report.parity.max_abs <= tolerances.EXPORT_FP32_LOGITS
