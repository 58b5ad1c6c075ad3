"""The train.csv of BirdCLEF: primary_label, secondary_labels as a Python list, audio in train_audio/.

Secondary labels without brackets are divided at `;`, `,` and `|`, and at spaces where the primary labels are codes
without spaces, as those of the competitions are.

Source: https://www.kaggle.com/competitions/birdclef-2025/data
"""

import re
from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.cells import SEPARATOR
from birdnet_fs.data.label_formats.source import PATH_COLUMNS, LabelRow, Source, rows_of_table


def matches(source: Source) -> bool:
    """Whether the table has the columns primary_label and filename."""
    return source.table is not None and {"primary_label", "filename"} <= set(source.table.columns)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per recording; with data.multi_label the secondary labels are labels too.

    Args:
        source: The data folder.

    Yields:
        The rows of train.csv.

    Raises:
        UserError: There is no table with the columns primary_label and filename.
    """
    if not matches(source) or source.table is None:
        columns = ", ".join(source.table.columns) if source.table else "no table"
        raise UserError(
            "data.layout=birdclef needs a table with the columns primary_label and filename; set data.table. "
            f"Received: {columns}"
        )
    label = source.data.label_column if source.data.label_column in source.table.columns else "primary_label"
    codes = not any(re.search(r"[\s,|]", cells[label]) for _, cells in source.table.rows)
    separators = f"{SEPARATOR},| " if codes else SEPARATOR
    yield from rows_of_table(source, source.table.column(("filename", *PATH_COLUMNS)), label, separators=separators)
