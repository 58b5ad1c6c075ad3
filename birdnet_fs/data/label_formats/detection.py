"""Layout of a data folder, with data.layout=auto."""

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats import FILE_LAYOUTS, LAYOUTS
from birdnet_fs.data.label_formats.source import Source
from birdnet_fs.data.label_formats.table_choice import ENDINGS, refuse_unread_tables, table_problem
from birdnet_fs.data.label_formats.unused import other_files


def detect_layout(source: Source) -> str:
    """Find the layout of a data folder; names of folders and files are not taken as labels where there is a table.

    Args:
        source: The data folder.

    Returns:
        A key of `LAYOUTS`.

    Raises:
        UserError: No layout fits, a table cannot be used, or there are tables of two kinds.
    """
    found = [name for name, module in LAYOUTS.items() if name not in FILE_LAYOUTS and module.matches(source)]
    if found[:2] == ["raven", "audacity"]:
        raise UserError(
            f"{escaped(source.root)} holds tables of Raven and label tracks of Audacity; set data.layout to raven or "
            "audacity, or data.table to the folder of one kind."
        )
    if len(found) > 1:
        others = " and ".join(found[1:])
        source.notes.append(f"Labels are read in layout {found[0]}; there are also tables of {others} (data.layout).")
    if found:
        return found[0]
    layout = next((name for name in FILE_LAYOUTS if LAYOUTS[name].matches(source)), "")
    if source.data.table and (layout or not source.choice.unusable):
        problem = "" if source.table is None else table_problem(source.table, source.data.label_column)
        raise UserError(
            f"data.table must be a table of labels or a folder of such tables (CSV with a column that names the "
            f"audio, Raven, Audacity). Received: {escaped(source.data.table)!r}{problem and f', which {problem}'}"
        )
    if layout:
        below = [
            path for path in source.text_files if path.name.lower().endswith(ENDINGS) and path.parent != source.root
        ]
        for path, problem in source.unreadable.items():
            if path.name.lower().endswith(ENDINGS):
                raise UserError(f"{escaped(path)}: {problem} Set data.layout={layout} to do without it.")
        refuse_unread_tables(source.root, source.choice, below, layout, source.data.label_column)
        texts = [path for path in source.text_files if path.suffix.lower() == ".txt" and source.index.named(path.stem)]
        if texts:
            source.notes.append(
                f"Text files beside recordings that are no tables of labels: {len(texts)} (the first: "
                f"{escaped(source.index.relative(str(texts[0])))})."
            )
        return layout
    raise UserError(
        f"No labeled recordings were found in {escaped(source.root)}: one folder of audio files per class, or "
        f"a table, was expected; set data.table or data.audio when they are elsewhere.{other_files(source)}"
    )
