"""Kind of a folder by its content, so that no command replaces the files of another one that have the same names."""

from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

# kind of content -> (files of which all are there, files of which none is there)
_KINDS = {
    "a run": (("config.json", "weights.safetensors"), ()),
    "an ensemble": (("ensemble.json",), ()),
    "a cross-validation": (("cv.json",), ()),
    "a study": (("journal.log", "space.json"), ()),
    "pseudo-labels": (("pseudo.csv",), ()),
    "an evaluation": (("ledger.csv", "metrics.json", "scores.csv"), ("config.json", "ensemble.json")),
    "an analysis": ((".done", "ledger.csv"), ()),
    "exported files": (("parity.json",), ()),
}
# kind that is written -> kinds whose files it would replace
_REPLACES = {
    "a run": {"an ensemble", "a cross-validation", "a study", "pseudo-labels", "an evaluation"},
    "a cross-validation": {"a run", "an ensemble", "an evaluation"},
    "an evaluation": {"a run", "an ensemble", "a cross-validation", "pseudo-labels", "an analysis"},
    "pseudo-labels": {"an evaluation", "an analysis"},
    "an analysis": {"pseudo-labels", "an evaluation"},
    "exported files": {"a run", "an ensemble", "a cross-validation", "an evaluation"},
}


def refuse_other_results(folder: Path, kind: str) -> None:
    """Refuse an output folder that holds the results of another command, whose files would be replaced.

    Args:
        folder: Output folder, which need not exist.
        kind: Kind of the results to write, one of "a run", "a cross-validation", "an evaluation", "pseudo-labels", "an
            analysis" and "exported files".

    Raises:
        UserError: The folder holds such results.
    """
    for other, (present, absent) in _KINDS.items():
        there = all((folder / name).exists() for name in present) and not any(
            (folder / name).exists() for name in absent
        )
        if there and other in _REPLACES[kind]:
            raise UserError(
                f"{escaped(folder)} holds {other}, and {kind} would replace files of it; give another folder with -o."
            )
