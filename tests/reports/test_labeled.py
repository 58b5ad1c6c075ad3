"""Scores of labeled recordings: data settings, one row per clip, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine
from birdnet_fs.reports.labeled import guess_data, score_labeled

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)


def engine(classes: tuple[str, ...]) -> Engine:
    """Logits from the mean level, so that every clip has another score."""

    def forward(waveforms: np.ndarray) -> np.ndarray:
        level = np.abs(waveforms).mean(axis=1, keepdims=True)
        return np.concatenate([level, -level], axis=1).astype(np.float32)

    return Engine(classes, SPEC, "softmax", "x", forward)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for i, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / f"{i}.wav", np.full(8_000, 0.1 * (i + 1)), 8_000)
    return tmp_path


def test_guess_data_takes_the_columns_and_windows_of_the_run(recordings: Path) -> None:
    of_run = schema.Data(label_column="species", group_column="site", multi_label=True, segment_hop_s=2.0)
    folder = guess_data(recordings, of_run)
    assert (folder.root, folder.table, folder.label_column) == (str(recordings), "", "species")
    assert (folder.group_column, folder.multi_label, folder.segment_hop_s) == ("site", True, 2.0)
    (recordings / "t.csv").write_text("filename,species\n")
    table = guess_data(recordings / "t.csv", of_run)
    assert (table.root, table.table) == (str(recordings), "t.csv")
    with pytest.raises(UserError, match=r"Labeled recordings were expected at .*none is there"):
        guess_data(recordings / "nothing", of_run)


def test_each_clip_gives_one_row(recordings: Path) -> None:
    table, ledger, _ = score_labeled(engine(("a", "b")), guess_data(recordings, schema.Data()))
    assert [Path(row.path).name for row in table.rows] == ["0.wav", "1.wav"]
    expected = 1 / (1 + np.exp(-2 * np.array([0.1, 0.2])))
    np.testing.assert_allclose(table.scores[:, 0], expected, atol=1e-4)  # 16-bit samples
    assert table.targets.tolist() == [[1, 0], [0, 1]] and ledger.counts()["ok"] == 2


def test_labels_of_other_classes_are_refused(recordings: Path) -> None:
    with pytest.raises(UserError, match=r"label .a. is not one of the classes"):
        score_labeled(engine(("x", "y")), guess_data(recordings, schema.Data()))
