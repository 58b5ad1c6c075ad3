"""Place of the table of pseudo-labels of an experiment, and the runs that labeled it.

`birdnet-fs pseudo-label` writes pseudo.csv, a score table (score_table.py) of all windows of unlabeled recordings, and
beside it pseudo.json, which names the run folders of the model.
"""

from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped

TABLE = "pseudo.csv"
ABOUT = "pseudo.json"


def find_pseudo_label_table(experiment: schema.Experiment) -> Path | None:
    """Find the table that `pseudo_labels.table` names.

    Args:
        experiment: Settings; `pseudo_labels.table` is a pseudo.csv, its folder, or a folder with one folder per fold
            (`fold0`, ...), of which that of `data.fold` is used.

    Returns:
        The pseudo.csv; None when `pseudo_labels.table` is not set.

    Raises:
        UserError: No table is found.
    """
    if not experiment.pseudo_labels.table:
        return None
    place = Path(experiment.pseudo_labels.table)
    for found in (place, place / TABLE, place / f"fold{experiment.data.fold}" / TABLE):
        if found.is_file():
            return found
    raise UserError(
        f"pseudo_labels.table must be a {TABLE} that birdnet-fs pseudo-label wrote, the folder that holds it, or a "
        f"folder with such a folder named fold{experiment.data.fold} (data.fold). Received: {escaped(place)}"
    )


def read_labeling_runs(table: Path) -> tuple[Path, ...]:
    """Read the run folders of the model that labeled a table from its pseudo.json.

    Args:
        table: A pseudo.csv.

    Returns:
        Run folders, which may have been moved or deleted since; none when there is no pseudo.json.

    Raises:
        UserError: The pseudo.json is damaged.
    """
    file = table.with_name(ABOUT)
    if not file.is_file():
        return ()
    again = "run birdnet-fs pseudo-label again"
    about = read_json(file, again)
    runs = about.get("runs") if isinstance(about, dict) else None
    if not isinstance(runs, list) or not all(isinstance(run, str) and "\0" not in run for run in runs):
        raise UserError(f"{escaped(file)} must be a JSON object with a list of run folders at the key 'runs'; {again}.")
    return tuple(Path(run) for run in runs)
