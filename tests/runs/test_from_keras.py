"""Models trained with `keras.Model.fit`, saved as runs: evaluated, analyzed and exported like any run."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile as sf
import tolerances
from installed import need

from birdnet_fs import models, schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.open import open_engine
from birdnet_fs.models.heads import HEADS
from birdnet_fs.runs.from_keras import save_run
from birdnet_fs.runs.run import load_run

RATE = 16_000
SPEC = schema.FrontEnd(sample_rate_hz=RATE, segment_s=1.0, n_mels=32, hop_length=512, fmin_hz=200.0, fmax_hz=7_000.0)
SHAPE = (*SPEC.shape, 1)
CLASSES = ("a", "b", "c")


def fitted(multi_label: bool = False, **options: object) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = models.build("cnn/tiny", input_shape=SHAPE, n_classes=3, **options)
    loss = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    model.compile("adam", loss(from_logits=True))
    x = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
    model.fit(x, np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]], epochs=1, batch_size=3, verbose=0)
    return model


OPTIONS = [
    {"head": "linear", "dropout": 0.1},
    {"head": "sed"},
    {"head": "cosine", "logit_scale": 12.0},
    *({"head": "prototypes", "distance": distance, "logit_scale": 2.0} for distance in ("euclidean", "cosine")),
    {"head": "prototypes", "distance": "learned", "unknown": True},
]


# prototypes are a softmax over distances and have no multi-label form
CASES = [(o, m) for o in OPTIONS for m in (False, True) if not (m and o["head"] == "prototypes")]


@pytest.mark.parametrize(("options", "multi_label"), CASES, ids=lambda case: str(case))
def test_reopened_run_gives_the_same_logits(options: dict, multi_label: bool, tmp_path: Path) -> None:
    model = fitted(multi_label, **options)
    saved = save_run(model, tmp_path / "run", classes=CLASSES, frontend=SPEC, multi_label=multi_label)
    run = load_run(tmp_path / "run")
    assert (run.experiment, run.classes, run.frontend) == (saved.experiment, CLASSES, SPEC)
    assert run.activation == ("sigmoid" if multi_label else "softmax") and run.experiment.model.head == options["head"]
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    wanted = model.predict(x, verbose=0)
    np.testing.assert_array_equal(run.build_model().predict(x, verbose=0), wanted)
    assert np.ptp(wanted) > 0


def test_every_head_is_saved() -> None:
    assert {options["head"] for options in OPTIONS} == set(HEADS)


def test_a_model_loaded_from_a_keras_file_is_saved(tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "m.keras")
    save_run(models.load_keras(tmp_path / "m.keras"), tmp_path / "run", classes=CLASSES, frontend=SPEC)
    x = np.random.default_rng(1).normal(size=(4, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(
        load_run(tmp_path / "run").build_model().predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_models_that_cannot_be_rebuilt_are_refused(tmp_path: Path) -> None:
    model = models.build("cnn/tiny", input_shape=SHAPE, n_classes=3)
    given = {"classes": CLASSES, "frontend": SPEC}
    own = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)], name="own")
    activated = keras.Model(model.input, keras.layers.Softmax()(model.output), name=model.name)
    wide = models.build("prototypical/v1", input_shape=SHAPE, n_classes=3, channels=(8, 8))
    for other, changed, words in (
        (own, {}, "Only a model of birdnet_fs.build_model .* Received: a model named 'own'"),
        (activated, {}, "must be its layer 'logits', without an activation"),
        (wide, {}, r"has shape \(.*\), expected \(.*\); pass the channels"),
        (model, {"classes": ("a", "b")}, "the names of the 3 outputs of the model. Received: 2 names"),
        (model, {"classes": ("a", "b", "b;c")}, "without ';'"),
        (model, {"frontend": "panns"}, r"have shape \[.*\] .*, the input of the model \["),
        (model, {"frontend": "pans"}, "Did you mean 'panns'"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            save_run(other, tmp_path / "run", **{**given, **changed})
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.json").exists()
    save_run(wide, tmp_path / "run", channels=(8, 8), **given)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of 3 s in a folder per class."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(2):
            tone = np.sin(2 * np.pi * 800 * (c + 1) * np.arange(3 * RATE) / RATE)
            sf.write(folder / name / f"{i}.wav", 0.3 * tone + rng.normal(0, 0.02, len(tone)), RATE)
    return folder


def test_evaluate_and_analyze_accept_a_run_of_unknown_provenance(recordings: Path, tmp_path: Path, capsys) -> None:
    run = save_run(fitted(), tmp_path / "run", classes=CLASSES, frontend=SPEC, name="mine")
    assert not (run.path / "partition.csv").exists()
    evaluate(run.path, recordings, output=tmp_path / "new")
    lines = [line for line in capsys.readouterr().err.splitlines() if "partition.csv" in line]
    assert lines == [f"{run.path} has no partition.csv, so its training recordings are unknown."]
    assert {"metrics.json", "scores.csv", "report.html"} <= {file.name for file in (tmp_path / "new").iterdir()}
    with pytest.raises(UserError, match=r"holds no partition\.csv.* give labeled recordings"):
        evaluate(run.path)
    ledger = analyze(open_engine(run.path), [recordings], tmp_path / "tables", min_confidence=0.0)
    assert ledger.counts()["ok"] == 6


def test_export_accepts_a_run_of_unknown_provenance(recordings: Path, tmp_path: Path) -> None:
    need("tensorflow")
    from birdnet_fs.export.export import export_run

    run = save_run(fitted(), tmp_path / "run", classes=CLASSES, frontend=SPEC)
    (made,) = export_run(run, tmp_path / "out", audio=recordings, n_segments=6)
    waveform = np.random.default_rng(3).uniform(-0.5, 0.5, (2, RATE)).astype(np.float32)
    ours, theirs = open_engine(run.path).probabilities(waveform), open_engine(made.path).probabilities(waveform)
    np.testing.assert_allclose(theirs, ours, atol=tolerances.EXPORT_FP32_LOGITS)
