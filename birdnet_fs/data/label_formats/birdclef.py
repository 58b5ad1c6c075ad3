"""BirdCLEF's train.csv: primary_label, secondary_labels as a Python list, audio in train_audio/.

https://www.kaggle.com/competitions/birdclef-2025/data
"""

from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.source import PATH_COLUMNS, Row, Source, tabular


def matches(source: Source) -> bool:
    """Whether the table has the columns primary_label and filename."""
    return source.table is not None and {"primary_label", "filename"} <= set(source.table.columns)


def read(source: Source) -> Iterator[Row]:
    """One row per recording; with data.multi_label the secondary labels are labels too."""
    if not matches(source) or source.table is None:
        raise UserError("layout=birdclef needs a table with the columns primary_label and filename; set data.table.")
    label = source.data.label_column if source.data.label_column in source.table.columns else "primary_label"
    yield from tabular(source, source.table.column(("filename", *PATH_COLUMNS)), label)
