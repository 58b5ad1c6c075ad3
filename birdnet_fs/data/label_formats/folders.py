"""One folder per class: `Parus major/*.wav`.

Clips in a folder `A,B` have two labels; clips in `-A` (A is absent) and in a folder named noise, nocall or background
have none. Files in deeper folders belong to the class of the top folder.
"""

from collections.abc import Iterator

from birdnet_fs.data.label_formats.source import NO_CALL, LabelRow, Source


def matches(source: Source) -> bool:
    """Whether there is any audio file."""
    return bool(source.audio_files)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per audio file."""
    top = source.audio_root
    for path in source.audio_files:
        parts = path.relative_to(top).parts
        names = [name.strip() for name in parts[0].split(",")] if len(parts) > 1 else []
        labels = tuple(n for n in names if n and not n.startswith("-") and n.lower() not in NO_CALL)
        secondary: tuple[str, ...] = ()
        if not source.data.multi_label:
            labels, secondary = labels[:1], labels[1:]
        yield LabelRow(
            "/".join(parts),
            str(path),
            labels,
            secondary,
            labeled=len(parts) == 1,
            cells={"folder": parts[0] if len(parts) > 1 else "", "filename": path.name},
        )
