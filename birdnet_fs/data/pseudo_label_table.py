"""The table of pseudo-labels that an experiment names, and the runs that made it."""

import json
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

TABLE, ABOUT = "pseudo.csv", "pseudo.json"  # ABOUT, beside the table, names the runs that labeled


def pseudo_label_table(experiment: schema.Experiment) -> Path | None:
    """The table that `pseudo_labels.table` means; None when it is not set.

    Raises:
        UserError: There is none.
    """
    if not experiment.pseudo_labels.table:
        return None
    place = Path(experiment.pseudo_labels.table)
    for found in (place, place / TABLE, place / f"fold{experiment.data.fold}" / TABLE):
        if found.is_file():
            return found
    raise UserError(
        f"pseudo_labels.table must be a {TABLE} that birdnet-fs pseudo-label wrote, its folder, or a folder with "
        f"fold{experiment.data.fold} (data.fold) of such. Received: {escaped(place)}"
    )


def labeling_runs(table: Path) -> tuple[Path, ...]:
    """The runs that labeled the windows of a table, as far as its pseudo.json tells.

    Raises:
        UserError: That is there and not as it was written.
    """
    file = table.with_name(ABOUT)
    if not file.is_file():
        return ()
    try:
        return tuple(Path(run) for run in json.loads(file.read_text(encoding="utf-8"))["runs"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not as it was written ({error}); run birdnet-fs pseudo-label again.") from None
