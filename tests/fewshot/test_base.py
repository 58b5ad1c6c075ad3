"""Enrollment and few-shot evaluation on a foreign encoder: against prototypes and episodes by hand."""

import json

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
import soundfile
from installed import need

from birdnet_fs import schema
from birdnet_fs.cli.enroll import enroll as enroll_command
from birdnet_fs.cli.fewshot_eval import fewshot_eval
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.encoders.reference import read_encoders
from birdnet_fs.fewshot.base import has_classes, write_encoder_base
from birdnet_fs.fewshot.enrollment import enroll
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import load_run
from birdnet_fs.training.trainer import train

need("onnxruntime")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return folder, encoder_runs.write_recordings(folder / "recordings", 3), *encoder_runs.write_encoder(folder / "e")


def mean_embeddings(root):
    """The mean, over the windows at every half, of the square roots of the embeddings of each recording, by NumPy."""
    found = {}
    for path in sorted(root.rglob("*.wav")):
        waveform, _ = soundfile.read(path, dtype="float32")
        n, hop = encoder_runs.N_SAMPLES, encoder_runs.N_SAMPLES // 2
        windows = np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, hop)])
        found[path] = np.sqrt(foreign_encoders.embedding(windows, encoder_runs.WIDTH)).mean(0)
    return found


def test_logits_are_cosines_to_class_means_around_the_support(place, tmp_path):
    _folder, root, file, card = place
    manifest = read_manifest(schema.Data(root=str(root)))
    model = schema.Model(encoder=str(file), encoder_card=str(card))
    base = write_encoder_base(model, manifest.clips, tmp_path / "base")
    assert not has_classes(base) and base.experiment.model.encoder_head.transform == "sqrt"
    run = enroll(base, manifest, tmp_path / "run", unknown=False)
    assert run.classes == encoder_runs.KINDS and has_classes(run)
    means = mean_embeddings(root)
    center = np.mean(list(means.values()), axis=0)
    points = {path: (x - center) / np.linalg.norm(x - center) for path, x in means.items()}
    prototypes = np.stack([np.mean([p for path, p in points.items() if path.parent.name == k], 0) for k in run.classes])
    waveform, _ = soundfile.read(root / "owl" / "owl1.wav", dtype="float32")
    window = waveform[None, : encoder_runs.N_SAMPLES]
    x = np.sqrt(foreign_encoders.embedding(window, encoder_runs.WIDTH))[0] - center
    cosines = prototypes @ x / np.linalg.norm(prototypes, axis=1) / np.linalg.norm(x)
    given = open_engine(run.path).logits(window)[0]
    np.testing.assert_allclose(given, run.experiment.logit_scale * cosines, atol=1e-3 * run.experiment.logit_scale)


def test_the_command_enrolls_an_encoder_and_keeps_the_run(place, tmp_path, capsys):
    _folder, root, file, card = place
    given = (file, root, [f"model.encoder_card={card}"])
    enroll_command(*given, output=tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.classes == (*encoder_runs.KINDS, "unknown")
    assert [each.path for each in read_encoders(run.path).encoders] == [str(file)]
    assert "license CC0" in capsys.readouterr().err
    enroll_command(*given, output=tmp_path / "run")
    assert "already holds this run" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"describes the file of an encoder; .* is a run"):
        enroll_command(run.path, root, [f"model.encoder_card={card}"], output=tmp_path / "no")
    more = encoder_runs.write_recordings(tmp_path / "more", 2, seed=5)
    (more / "owl").rename(more / "eagle")
    for kind in ("tit", "wren"):
        for each in (more / kind).iterdir():
            each.unlink()
        (more / kind).rmdir()
    enroll_command(run.path, more, output=tmp_path / "second")
    assert load_run(tmp_path / "second").classes == ("eagle", *encoder_runs.KINDS, "unknown")


def test_classes_are_enrolled_into_a_run_with_another_head(place, tmp_path):
    """The transform of the run stays, its classes do not: they have no support."""
    _folder, root, file, card = place
    trained = train(encoder_runs.experiment(file, card, root), tmp_path / "linear")
    other = encoder_runs.write_recordings(tmp_path / "other", 3, seed=7)
    for kind in encoder_runs.KINDS:
        (other / kind).rename(other / f"new {kind}")
    run = enroll(trained, read_manifest(schema.Data(root=str(other))), tmp_path / "run", unknown=False)
    assert run.classes == tuple(f"new {kind}" for kind in encoder_runs.KINDS)
    waveform, _ = soundfile.read(other / "new tit" / "tit0.wav", dtype="float32")
    scores = open_engine(run.path).probabilities(waveform[None, : encoder_runs.N_SAMPLES])
    assert scores.argmax() == 1 and scores.sum() == pytest.approx(1)


def test_few_shot_evaluation_of_an_encoder(place, tmp_path, capsys):
    _folder, root, file, card = place
    settings = [f"model.encoder_card={card}"]
    output = tmp_path / "found.json"
    fewshot_eval(file, root, settings, ways=3, shots="1", queries=1, episodes=50, correlation=True, output=output)
    found = {row["method"]: row["accuracy"] for row in json.loads(output.read_text())["results"]}
    assert found["simpleshot"] >= 0.9 and "simpleshot+correlation" in found  # chance is 1/3
    assert "the mean of all clips, without their labels, is subtracted" in capsys.readouterr().err


def test_a_wrong_encoder_is_one_sentence(place, tmp_path):
    with pytest.raises(UserError, match=r"must be a \.tflite or \.onnx file"):
        fewshot_eval(place[3], place[1], [])
    with pytest.raises(UserError, match="fits none of the encoder cards"):
        enroll_command(place[2], place[1], output=tmp_path / "run")
