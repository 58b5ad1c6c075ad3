"""Tables of a run, an ensemble and exported files with 1 and several workers, and what is kept of a recording."""

import numpy as np
import pytest
from level_model import CLASSES, LevelModel, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.options import check_options
from birdnet_fs.analysis.scoring.recordings import all_scores, score_recordings, whole, why_not


def rule_of(engine, overlap_s=0.0):
    options = {"min_confidence": 0.1, "top_n": 0, "merge_consecutive": 1, "species": ()}
    return check_options(engine, overlap_s=overlap_s, **options).rule


def recordings(folder):
    """Recordings of several lengths, one that is broken and one that is empty."""
    lengths = (0.3, 40, 1, 7.75, 3, 12)
    paths = [write_wav(folder / f"r{i}.wav", seconds, seed=i) for i, seconds in enumerate(lengths)]
    (folder / "r2.wav").write_bytes(b"RIFF no audio")
    (folder / "r4.wav").write_bytes(b"")
    return paths


@pytest.mark.parametrize("n_workers", [2, 5])
def test_scores_do_not_depend_on_the_number_of_workers(tmp_path, n_workers):
    engine, paths = LevelModel().engine, recordings(tmp_path)
    rule, counts = rule_of(engine, 0.25), []
    one, many = (
        list(score_recordings(engine, paths, rule, whole, batch_size=3, n_workers=n, count=counts.append))
        for n in (1, n_workers)
    )
    assert [each.recording for each in many] == paths
    assert [each.recording.name for each in many if each.error] == ["r2.wav", "r4.wav"]
    for first, second in zip(one, many, strict=True):
        assert (first.error is None) == (second.error is None)
        if first.error is not None:
            assert why_not(first.error) == why_not(second.error) != ""
            continue
        assert np.array_equal(all_scores(first, len(CLASSES)), all_scores(second, len(CLASSES)))
        assert np.array_equal(first.spans_s, second.spans_s) and len(first.spans_s) == len(first.windows)
        assert first.stream.duration_s == second.stream.duration_s > 0
    assert sum(counts) == 2 * sum(len(each.windows) for each in one)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.results.*")}


def test_tables_are_equal_and_in_order_for_any_number_of_workers(tmp_path):
    (tmp_path / "in").mkdir()
    recordings(tmp_path / "in")
    formats = ["csv", "audacity"]
    for n in (1, 4):
        settings = {"formats": formats, "n_workers": n, "batch_size": 2}
        analyze(LevelModel().engine, [tmp_path / "in"], tmp_path / f"out{n}", **settings)
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out4") and len(files_of(tmp_path / "out1")) == 8
    ledgers = [(tmp_path / f"out{n}" / "ledger.csv").read_text() for n in (1, 4)]
    assert ledgers[0] == ledgers[1]
