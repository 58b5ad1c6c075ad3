"""Containers that hardly any recorder writes, but that libsndfile reads: where their samples are.

Sources: NIST SPHERE, Creative Voice File, AVR, Psion Series 3, MATLAB 4 and 5, Akai MPC 2000 and MIDI Sample Dump, as
libsndfile reads and writes them. Each function takes an open file, the byte offset of the container and the size of the
file, and returns its samples.
"""

import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from birdnet_fs.audio.samples import MAX_CHUNKS, Samples


def _nist(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """NIST SPHERE: a text header of 1,024 bytes or more."""
    file.seek(begin)
    text = file.read(4096)
    found = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d+)", text)}
    head = int(text[8:16])
    if b"sample_count" not in found:
        return Samples(begin + head, None)
    n_bytes = found[b"sample_count"] * found.get(b"channel_count", 1) * found.get(b"sample_n_bytes", 1)
    return Samples(begin + head, n_bytes, reads_on=True)


def _voc(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """Creative VOC: blocks of at most 16 MB, of which those of types 1, 2 and 9 hold samples."""
    file.seek(begin + 20)
    at = begin + struct.unpack("<H", file.read(2))[0]
    first, end = None, at
    for _ in range(MAX_CHUNKS):
        if at + 4 > size:
            break
        file.seek(at)
        kind, low, high = struct.unpack("<BHB", file.read(4))
        if kind == 0:
            break
        length = low | high << 16
        if kind in (1, 2, 9):
            first = at + 4 if first is None else first
            end = at + 4 + length
        at += 4 + length
    return None if first is None else Samples(first, end - first)


def _avr(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """Audio Visual Research, Atari and Amiga."""
    file.seek(begin + 12)
    stereo, bits = struct.unpack(">hH", file.read(4))
    file.seek(begin + 26)
    n_samples = struct.unpack(">I", file.read(4))[0]
    return Samples(begin + 128, n_samples * bits // 8 * (2 if stereo else 1), reads_on=True)


def _wve(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """Psion WVE."""
    file.seek(begin + 18)
    return Samples(begin + 32, struct.unpack(">I", file.read(4))[0], begin + 18, ">I", reads_on=True)


def _matlab5(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """MATLAB 5: elements of stated size."""
    file.seek(begin + 126)
    order = "<" if file.read(2) == b"IM" else ">"
    at, end = begin + 128, begin + 128
    for _ in range(2):  # the sample rate, and the samples
        if at + 8 > size:
            break
        file.seek(at)
        end = at + 8 + struct.unpack(order + "4xI", file.read(8))[0]
        at = end
    return Samples(begin + 128, end - begin - 136)  # libsndfile states 8 bytes too many


def _matlab4(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """MATLAB 4: matrices of stated shape."""
    at = end = begin
    for _ in range(2):  # the sample rate, and the samples
        if at + 20 > size:
            break
        file.seek(at)
        head = file.read(20)
        order = ">" if head[0] == 0 and head[:4] != bytes(4) else "<"
        kind, rows, columns, imaginary, name = struct.unpack(order + "5I", head)
        each = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}.get(kind // 10 % 10, 1)
        end = at + 20 + name + rows * columns * each * (2 if imaginary else 1)
        at = end
    return Samples(begin, end - begin)


def _mpc2000(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """Akai MPC 2000."""
    file.seek(begin + 20)
    stereo = file.read(1) != b"\0"
    file.seek(begin + 30)
    return Samples(begin + 42, struct.unpack("<I", file.read(4))[0] * (4 if stereo else 2), reads_on=True)


def _midi_sample_dump(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """MIDI Sample Dump Standard: packets of 120 bytes of samples, in 127 bytes; numbers have 7 bits a byte."""
    file.seek(begin)
    head = file.read(21)
    bits, length = head[6], head[10] | head[11] << 7 | head[12] << 14
    per_packet = 120 // max(1, -(-bits // 7))
    return Samples(begin + 21, -(-length // per_packet) * 127)


RARE: dict[str, tuple[re.Pattern[bytes], Callable[[BinaryIO, int, int], Samples | None]]] = {
    "nist": (re.compile(rb"NIST_1A\n"), _nist),
    "voc": (re.compile(rb"Creative Voice File\x1a"), _voc),
    "avr": (re.compile(rb"2BIT"), _avr),
    "wve": (re.compile(rb"ALawSoundFile\*\*\x00"), _wve),
    "mat5": (re.compile(rb"MATLAB 5\.0 MAT-file"), _matlab5),
    "mat4": (
        re.compile(rb"(\x00\x00\x00\x00\x01\x00\x00\x00\x01|\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x00\x00\x01)"),
        _matlab4,
    ),
    "sds": (re.compile(rb"\xf0\x7e.\x01.{16}\xf7", re.DOTALL), _midi_sample_dump),
    "mpc2k": (re.compile(rb"\x01\x04[ -~]{17}"), _mpc2000),
}
"""Kind -> (how it begins, where its samples are)."""
