"""Audio files before their header is inspected: names, opening, and formats that cannot be decoded."""

import io
import os
import stat
from pathlib import Path

from birdnet_fs.audio.file_view import BufferedFile
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

EXTENSIONS = {  # libsndfile's name of a format -> its file name extensions
    "WAV": (".wav", ".wave"),
    "RF64": (".rf64", ".wav", ".wave", ".bw64"),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3", ".mp2", ".mp1", ".mpga"),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "CAF": (".caf", ".caff"),
    "AU": (".au", ".snd"),
    "NIST": (".nist", ".sph"),
    "VOC": (".voc",),
    "SVX": (".svx", ".8svx", ".iff"),
    "PAF": (".paf", ".fap"),
    "IRCAM": (".sf", ".ircam"),
    "AVR": (".avr",),
    "PVF": (".pvf",),
    "SDS": (".sds",),
    "HTK": (".htk",),
    "WVE": (".wve",),
}
CONVERT = "convert it first, as with: ffmpeg -i INPUT OUTPUT.flac"
WILDLIFE = "convert it to WAV first, with Kaleidoscope or wac2wavcmd of Wildlife Acoustics"
FOREIGN = (  # (offset, magic number, format, advice) of audio that libsndfile cannot decode
    (4, b"ftyp", "MP4 audio (m4a, m4b, 3gp; AAC or ALAC)", CONVERT),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media audio (wma)", CONVERT),
    (0, b"\xff\xf1", "AAC audio (ADTS)", CONVERT),
    (0, b"\xff\xf9", "AAC audio (ADTS)", CONVERT),
    (0, b"ADIF", "AAC audio (ADIF)", CONVERT),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM audio", CONVERT),
    (0, b"wvpk", "WavPack audio", CONVERT),
    (0, b"MAC ", "Monkey's Audio", CONVERT),
    (0, b"#!AMR", "AMR audio", CONVERT),
    (0, b"\x0b\x77", "AC-3 audio", CONVERT),
    (0, b"DSD ", "DSD audio (dsf)", CONVERT),
    (0, b"FRM8", "DSD audio (dff)", CONVERT),
    (0, b"TTA1", "TTA audio", CONVERT),
    (0, b"tBaK", "TAK audio", CONVERT),
    (0, b"MPCK", "Musepack audio", CONVERT),
    (0, b"MP+", "Musepack audio", CONVERT),
    (0, b".RMF", "RealAudio", CONVERT),
    (0, b"ajkg", "Shorten audio", CONVERT),
    (8, b"AVI ", "AVI video", CONVERT),
    (0, b"WAAC", "Wildlife Acoustics audio (wac)", WILDLIFE),
)
UNREADABLE = {  # extension of a sound format that cannot be decoded -> advice
    **dict.fromkeys((".m4a", ".m4b", ".m4r", ".mp4", ".aac", ".3gp", ".3g2", ".amr", ".awb", ".mov", ".qt"), CONVERT),
    **dict.fromkeys((".wma", ".asf", ".wv", ".ape", ".tta", ".tak", ".shn", ".mpc", ".ra", ".rm", ".spx"), CONVERT),
    **dict.fromkeys((".webm", ".mka", ".mkv", ".avi", ".mts", ".ac3", ".eac3", ".dts", ".dsf", ".dff"), CONVERT),
    **dict.fromkeys((".wac", ".w4v"), WILDLIFE),
}
NOT_AUDIO = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML"),
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a zip archive"),
)


class AudioError(UserError):
    """A file that cannot be used as audio.

    Args:
        reason: The cause in one sentence.
        path: The file.
    """

    def __init__(self, reason: str, path: Path | str = "") -> None:
        super().__init__(reason, os.fspath(path))
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{escaped(self.path)}: {self.reason}"


def open_file(path: Path | str) -> tuple[BufferedFile, int]:
    """Open a regular file for reading.

    Args:
        path: The file.

    Returns:
        The open file and its size in bytes.

    Raises:
        AudioError: The file is missing, a folder or a device, or there is no permission to read it.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("this is a folder, not an audio file.", path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("this is a device or a pipe, not an audio file.", path)
        return BufferedFile(io.FileIO(path)), status.st_size
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError("the file does not exist.", path) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AudioError(f"the file cannot be opened ({why}).", path) from None


def refuse_other_formats(head: bytes, path: Path | str) -> None:
    """Refuse files whose first bytes are not those of audio that can be decoded.

    Args:
        head: First bytes of the file, 64 or more where it has as many.
        path: The file, for the message.

    Raises:
        AudioError: The file is empty, holds only zeros, has a format that cannot be decoded, or is not audio.
    """
    if not head:
        raise AudioError("the file is empty (0 bytes).", path)
    if not head.strip(b"\0"):
        raise AudioError("the file holds only zero bytes where its header should be.", path)
    for offset, magic, what, advice in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise AudioError(f"{what} cannot be read; {advice}.", path)
    text = head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in NOT_AUDIO:
        if text.startswith(magic):
            raise AudioError(f"this is {what}, not audio.", path)
