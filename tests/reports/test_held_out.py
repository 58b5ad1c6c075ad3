"""What is refused when a run says nothing of its held-out clips."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save

from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.held_out import evaluate_again, report_on_held_out
from birdnet_fs.runs.run import Run, model_weights


def test_a_run_without_scores_and_partition_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="so its held-out clips are unknown; give labeled recordings"):
        evaluate_again(run.path)


def test_a_run_that_held_nothing_out_gives_no_metrics(run: Run, capsys: pytest.CaptureFixture) -> None:
    columns = "path,onset_s,offset_s,labels,secondary,group,part,fingerprint\n"
    (run.path / "partition.csv").write_text(columns, encoding="utf-8")
    assert report_on_held_out(run) == {}
    assert "Nothing was held out" in capsys.readouterr().err
    with pytest.raises(UserError, match="held nothing out to evaluate on"):
        evaluate_again(run.path)


def test_stored_scores_are_evaluated_again(run: Run, tmp_path: Path) -> None:
    from birdnet_fs.data.score_table import ScoreRow, score_table
    from birdnet_fs.reports.stored_scores import write_model_scores

    rows = [ScoreRow(f"{i}.wav", 0.0, 1.0, "", ("ab"[i % 2],)) for i in range(6)]
    scores = np.array([[0.9, 0.1], [0.2, 0.8]] * 3, np.float32)
    write_model_scores(run.path, score_table(rows, scores, ("a", "b")), run.path)
    assert evaluate_again(run.path, tmp_path / "out")["macro_auroc"] == 1.0
    assert (tmp_path / "out" / "report.html").is_file() and not (run.path / "report.html").exists()


def test_scores_of_other_weights_are_not_evaluated(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import shutil

    from birdnet_fs.data.score_table import ScoreRow, read_scores, score_table
    from birdnet_fs.reports.stored_scores import has_scores, write_model_scores

    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8_000), 8_000)
    rows = [f"held_out,{tmp_path / 'a.wav'},{k / 2},{k / 2 + 0.5},,{'ab'[k]},," for k in range(2)]
    columns = "part,path,onset_s,offset_s,group,labels,secondary,fingerprint"
    (run.path / "partition.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    evaluate_again(run.path)
    own = read_scores(run.path / "scores.csv").scores
    wrong = score_table([ScoreRow("b.wav", 0.0, 1.0, "", ("a",))], np.array([[0.5, 0.5]]), ("a", "b"))
    shutil.copytree(run.path, tmp_path / "other")
    write_model_scores(tmp_path / "other", wrong, tmp_path / "other")

    def copied() -> None:
        shutil.copy(tmp_path / "other" / "scores.csv", run.path)

    def edited() -> None:
        text = (run.path / "scores.csv").read_text(encoding="utf-8")
        (run.path / "scores.csv").write_text(text.replace("0.5,0.5,", "0.25,0.5,"), encoding="utf-8")

    def without_hashes() -> None:
        (run.path / "scores.json").unlink()

    def other_clips() -> None:
        (run.path / "partition.csv").write_text("\n".join([columns, *reversed(rows)]) + "\n", encoding="utf-8")

    for change in (copied, edited, without_hashes, other_clips):
        assert has_scores(run.path)
        capsys.readouterr()
        change()
        assert not has_scores(run.path)
        evaluate_again(run.path)
        assert "the clips are scored again" in capsys.readouterr().err
        assert sorted(read_scores(run.path / "scores.csv").scores.tolist()) == sorted(own.tolist())
    capsys.readouterr()
    evaluate_again(run.path)
    assert "scored again" not in capsys.readouterr().err
    model = run.build_model()
    model.weights[0].assign(model.weights[0] * 2)
    weights = model_weights(model)
    (run.path / "weights.safetensors").write_bytes(save(weights))
    evaluate_again(run.path)
    assert "scored again" in capsys.readouterr().err
