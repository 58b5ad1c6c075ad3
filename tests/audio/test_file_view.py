"""Views of a file: pieces in order, bytes added and replaced."""

import io

from birdnet_fs.audio.file_view import BufferedFile, FileView, patched


def test_view_reads_its_pieces_in_order():
    file = io.BytesIO(bytes(range(100)))
    view = FileView(file, ((0, 10), b"new", (5, 5), b"", (90, 100)))
    expected = bytes([*range(10)]) + b"new" + bytes(range(90, 100))
    assert view.readall() == expected and view.tell() == len(expected)
    assert view.seek(-5, io.SEEK_END) == 18 and view.read(9) == expected[18:]
    buffered = BufferedFile(view)
    for start in range(len(expected)):
        buffered.seek(start)
        assert buffered.read(7) == expected[start : start + 7]


def test_patched_replaces_bytes():
    file = io.BytesIO(bytes(20))
    view = FileView(file, patched(2, 18, {4: b"ab", 10: b"c"}))
    assert view.readall() == bytes(2) + b"ab" + bytes(4) + b"c" + bytes(7)


def test_buffered_file_ignores_invalid_positions():
    file = BufferedFile(FileView(io.BytesIO(b"abc"), ((0, 3),)))
    file.seek(1)
    assert file.seek(-7) == 1 and file.read() == b"bc"
