"""`Model.predict` and its table: refusals, damaged recordings, waveforms at other rates, pandas."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.model import Model, WindowTable, load

RATE = 8_000
SPEC = schema.FrontEnd(
    sample_rate_hz=RATE, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)


def mean_and_peak(waveforms: np.ndarray) -> np.ndarray:
    return np.stack([waveforms.mean(1), np.abs(waveforms).max(1)], 1).astype(np.float32)


MODEL = Model(Engine(("mean", "peak"), SPEC, "sigmoid", "x", mean_and_peak))
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 40 * RATE).astype(np.float32)


def test_batches_do_not_change_scores(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", NOISE, RATE, subtype="FLOAT")
    table = MODEL.predict(tmp_path / "a.wav")
    assert len(table) == 40  # more than one batch
    expected = 1 / (1 + np.exp(-np.abs(NOISE.reshape(40, RATE)).max(1).astype(np.float64)))
    np.testing.assert_array_equal(table["peak"], expected.astype(np.float32))
    np.testing.assert_array_equal(MODEL.predict(str(tmp_path / "a.wav")).scores, MODEL.predict(NOISE).scores)
    assert (MODEL.classes, MODEL.sample_rate_hz, MODEL.segment_s) == (("mean", "peak"), RATE, 1.0)


def test_waveforms_of_another_rate_are_resampled() -> None:
    found = MODEL.predict(NOISE[: 3 * 12_000], sample_rate_hz=12_000)
    wanted = MODEL.predict(soxr.resample(NOISE[: 3 * 12_000], 12_000, RATE, quality="HQ"))
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert found["end_s"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("audio", "settings", "words"),
    [
        (NOISE.reshape(2, -1), {}, r"must be mono, \[n_samples\], not empty\. Received shape: \[2, 160000\]"),
        (NOISE[:0], {}, r"Received shape: \[0\]"),
        (np.ones(RATE, np.int32), {}, "must be float in ±1, or int16. Received dtype: int32"),
        (NOISE[:RATE] * np.nan, {}, "NaN or infinite"),
        ([0.0, 0.1], {}, "audio must be a path or a NumPy array. Received: list"),
        (NOISE, {"sample_rate_hz": 0}, "sample_rate_hz must be 1 or more. Received: 0"),
        (NOISE, {"overlap_s": 1.0}, r"overlap must be 0 or more and below the model's segment of 1 s\. Received: 1 s"),
        ("a.wav", {"sample_rate_hz": RATE}, "a file has its own. Received: 8000"),
        ("absent.wav", {}, "absent.wav"),
    ],
)
def test_bad_arguments_are_refused(audio: object, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        MODEL.predict(audio, **settings)
    assert "\n" not in str(caught.value)


def test_broken_recordings_are_refused_and_partial_ones_reported(tmp_path: Path, capsys) -> None:
    (tmp_path / "text\n.wav").write_bytes(b"no audio at all")
    with pytest.raises(UserError, match=r"text\\n\.wav") as caught:
        MODEL.predict(tmp_path / "text\n.wav")
    assert "\n" not in str(caught.value)
    sf.write(tmp_path / "cut.flac", NOISE, RATE, subtype="PCM_16")
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    table = MODEL.predict(tmp_path / "cut.flac")
    assert table.status == "partial" and table.reason and 10 < len(table) < 40
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{tmp_path / 'cut.flac'} was scored in part: {table.reason.removesuffix('.')}."


def test_table_converts_to_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MODEL.predict(NOISE[: 2 * RATE])
    monkeypatch.setitem(sys.modules, "pandas", None)  # an import of it fails
    with pytest.raises(UserError, match="needs pandas; install it with `pip install pandas`"):
        table.to_pandas()
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=lambda columns: columns))
    assert list(table.to_pandas()) == ["start_s", "end_s", "mean", "peak"]


def test_table_in_real_pandas() -> None:
    import pandas

    table = MODEL.predict(NOISE[: 2 * RATE])
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame.shape == (2, 4)
    np.testing.assert_array_equal(frame["peak"], table["peak"])


def test_tables_are_compared_by_identity() -> None:
    table = WindowTable(np.zeros(1), np.ones(1), np.ones((1, 1)), ("a",))
    assert table == table and table != WindowTable(np.zeros(1), np.ones(1), np.ones((1, 1)), ("a",))


def test_load_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A model must be a run folder"):
        load(tmp_path / "none")
