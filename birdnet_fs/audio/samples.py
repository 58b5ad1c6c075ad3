"""The place of the samples in a container."""

import struct
from dataclasses import dataclass

MAX_CHUNKS = 4096  # of one container; a damaged file may look like millions of empty ones


@dataclass(frozen=True)
class Samples:
    """Place of the samples in a container."""

    begin: int  # byte offset of the first sample
    n_bytes: int | None  # stated size; None = not stated, to the end of the file
    size_at: int = 0  # byte offset of the stated size; 0 = it cannot be repaired
    size_format: str = ""  # of the struct module
    size_extra: int = 0  # bytes in the stated size that are not samples
    align: int = 1  # bytes per sample of all channels
    chunks: str = ""  # byte order of chunks that may follow the samples; "" = none may follow
    reads_on: bool = False  # libsndfile ignores the size and reads to the end of the file

    def size_field(self, n_bytes: int) -> bytes:
        """The stored size for `n_bytes` of samples, the largest possible one where they do not fit."""
        value = n_bytes + self.size_extra
        if self.size_format[-1] == "I":
            value = min(value, 0xFFFFFFFF)
        return struct.pack(self.size_format, value)
