"""The table of BirdCLEF: primary_label, secondary_labels as a Python list, audio in a folder per species.

train.csv of 2020 and 2025 and train_metadata.csv of 2021 to 2024. `filename` holds the folder (`abc/XC1.ogg`), or the
name alone (2020, 2021); the file is then in the folder of its label, in train_audio/ or train_short_audio/.
Secondary labels without brackets are divided at `;`, `,` and `|`, and at spaces where the primary labels are codes
without spaces, as those of the competitions are.

Source: https://www.kaggle.com/competitions/birdclef-2025/data
"""

import re
from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import SEPARATOR
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.table_rows import choose_column, rows_of_table


def matches(source: Source) -> bool:
    """Whether the table has the columns primary_label and filename."""
    table = source.table
    return table is not None and bool(table.column(("primarylabel",)) and table.column(("filename",)))


def read(source: Source) -> Iterator[LabelRow]:
    """One row per recording; with data.multi_label the secondary labels are labels too.

    Args:
        source: The data folder.

    Yields:
        The rows of the table.

    Raises:
        UserError: There is no table with the columns primary_label and filename.
    """
    if not matches(source) or source.table is None:
        columns = ", ".join(map(escaped, source.table.columns)) if source.table else "no table"
        raise UserError(
            "data.layout=birdclef needs a table with the columns primary_label and filename; set data.table. "
            f"Received: {columns}"
        )
    table = source.table
    label = choose_column(table, "label_column", source.data.label_column, ("primarylabel",))
    label = table.column(("primarylabel",)) if label == table.column(("label",)) else label
    names = {cells.get(label) for _, cells, _ in table.rows()}
    codes = not any(re.search(r"[\s,|]", name) for name in names)
    separators = f"{SEPARATOR},| " if codes else SEPARATOR
    yield from rows_of_table(
        source, table.column(("filename",)), label, separators=separators, folders=frozenset(names - {""})
    )
