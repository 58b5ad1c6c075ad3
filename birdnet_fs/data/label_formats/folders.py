"""One folder per class: `Parus major/*.wav`. `A,B` holds two labels, and `-A` (A is absent) and a folder named
noise, nocall or background hold none. Deeper folders belong to the class above them.
"""

from collections.abc import Iterator

from birdnet_fs.data.label_formats.source import NO_CALL, Row, Source


def matches(source: Source) -> bool:
    """Whether there is any audio below the root."""
    return bool(source.audio_files)


def read(source: Source) -> Iterator[Row]:
    """One row per audio file."""
    top = source.audio_root
    for path in source.audio_files:
        parts = path.relative_to(top).parts
        names = [name.strip() for name in parts[0].split(",")] if len(parts) > 1 else []
        labels = tuple(n for n in names if n and not n.startswith("-") and n.lower() not in NO_CALL)
        if not source.data.multi_label:
            labels, more = labels[:1], labels[1:]
        else:
            more = ()
        yield Row(
            "/".join(parts),
            str(path),
            labels,
            more,
            labeled=len(parts) == 1,
            cells={"folder": parts[0] if len(parts) > 1 else "", "filename": path.name},
        )
