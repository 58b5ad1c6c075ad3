"""No command replaces the files of another one in a folder."""

from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.folder_kind import refuse_other_results

RUN = ("config.json", "weights.safetensors", "metrics.json", "scores.csv", "report.html")
EVALUATION = ("metrics.json", "scores.csv", "ledger.csv")


@pytest.mark.parametrize(
    ("there", "kind", "named"),
    [
        (RUN, "an evaluation", "a run"),
        (RUN, "a cross-validation", "a run"),
        (RUN, "exported files", "a run"),
        (RUN, "a run", ""),
        (RUN[2:], "a run", ""),  # left by a killed command, which goes on
        (RUN, "an analysis", ""),
        (("cv.json", "metrics.json"), "a run", "a cross-validation"),
        (("ensemble.json",), "a run", "an ensemble"),
        (("pseudo.csv", "ledger.csv"), "an analysis", "pseudo-labels"),
        (EVALUATION, "an analysis", "an evaluation"),
        (EVALUATION, "a run", "an evaluation"),
        (EVALUATION, "an evaluation", ""),
        ((".done", "ledger.csv"), "pseudo-labels", "an analysis"),
        (("parity.json",), "exported files", ""),
        ((), "a run", ""),
    ],
)
def test_results_of_another_command_are_refused(tmp_path: Path, there: tuple[str, ...], kind: str, named: str) -> None:
    for name in there:
        (tmp_path / name).write_text("")
    if not named:
        refuse_other_results(tmp_path, kind)
        refuse_other_results(tmp_path / "absent", kind)
        return
    with pytest.raises(UserError, match=f"holds {named}, and {kind} would replace files of it; give another folder"):
        refuse_other_results(tmp_path, kind)
