"""Where the bytes of a job file come from: opening, looking at how they begin, counting and hashing them."""

import codecs
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

from batchrunner.errors import InputError

#: Large enough that reading and hashing cost next to nothing per line, small enough to stay in the cache.
BLOCK_BYTES = 256 * 1024

#: What files begin with that are given by mistake, and what to do about it. UTF-32 stands before the UTF-16 it looks like.
_UTF8 = "save it as UTF-8 (iconv -f {0} -t UTF-8)"
_FOREIGN_STARTS = (
    (codecs.BOM_UTF32_LE, f"looks like UTF-32: {_UTF8.format('UTF-32')}"),
    (codecs.BOM_UTF32_BE, f"looks like UTF-32: {_UTF8.format('UTF-32')}"),
    (codecs.BOM_UTF16_LE, f"looks like UTF-16: {_UTF8.format('UTF-16')}"),
    (codecs.BOM_UTF16_BE, f"looks like UTF-16: {_UTF8.format('UTF-16')}"),
    (b"\x1f\x8b", "is packed by gzip twice: unpack it once (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it first (unzstd)"),
    (b"PK\x03\x04", "is a zip archive or a spreadsheet: save its content as CSV or JSON lines"),
    (b"SQLite format 3\x00", "is an SQLite database: name the job file, not its store"),
)
#: Which of the first four bytes are NUL in text without a byte order mark, and how it is encoded.
_NUL_PATTERNS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}


class BinaryStream(Protocol):
    """What is asked of an open binary file."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most *size* bytes, none at the end, and None if there are none yet."""
        ...


PathOrStream = str | os.PathLike[str] | BinaryStream


class Fingerprint(NamedTuple):
    """What tells whether a file is still the same."""

    size: int  #: Bytes.
    sha256: str  #: 64 hexadecimal digits.


class Source:
    """A file or stream in blocks. Opened at the first block, closed after the last (a stream of the caller's is not)."""

    def __init__(self, origin: PathOrStream, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._origin = origin
        self._block_bytes = block_bytes
        self._fingerprint: Fingerprint | None = None
        self.bytes_read = 0  #: So far.
        #: For messages.
        self.name = (
            os.fspath(origin) if isinstance(origin, str | os.PathLike) else str(getattr(origin, "name", "input"))
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """Size and hash, known once the last block has been read; RuntimeError before."""
        if self._fingerprint is None:
            raise RuntimeError("the fingerprint of an input is known only after its last line")
        return self._fingerprint

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes as they are, the first block with at least four bytes if there are four.

        InputError if there is no such file, if it is no regular file, if it cannot be read, or if it was written to
        meanwhile.
        """
        digest = hashlib.sha256()
        with self._open() as stream:
            before = self._status(stream)
            block = start = self._read(stream)
            while block and len(start) < 4:
                block = self._read(stream)
                start += block
            block = start
            while block:
                digest.update(block)
                yield block
                block = self._read(stream)
            if self._status(stream) != before:
                raise InputError(
                    f"{self.name} was written to while it was read. Nothing was sent; wait until it is complete, then run "
                    "the same command again."
                )
        self._fingerprint = Fingerprint(self.bytes_read, digest.hexdigest())

    def _open(self) -> AbstractContextManager[BinaryStream]:
        if not isinstance(self._origin, str | os.PathLike):
            return nullcontext(self._origin)
        path = Path(self._origin)
        try:
            # Asked before opening: to open a FIFO waits for a writer.
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise InputError(f"{self.name} is a directory: name the job file in it.")
            if not stat.S_ISREG(mode):
                raise InputError(f"{self.name} is a pipe or a device: write its content to a file and name that.")
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: no such file; check the path.") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise InputError(f"{self.name} cannot be opened: {_reason(error)}.") from error

    def _status(self, stream: BinaryStream) -> tuple[int, int] | None:
        """Return what a write to the file changes; None for a stream of the caller's."""
        if not isinstance(self._origin, str | os.PathLike) or not isinstance(stream, io.FileIO):
            return None
        status = os.fstat(stream.fileno())
        return status.st_size, status.st_mtime_ns

    def _read(self, stream: BinaryStream) -> bytes:
        try:
            block = stream.read(self._block_bytes)
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {_reason(error)}.") from error
        if block is None:  # Not the end: to go on from here would lose the rest in silence.
            raise InputError(f"{self.name} has no data yet (non-blocking): write its content to a file and name that.")
        self.bytes_read += len(block)
        return block


def text_starts_at(start: bytes, name: str) -> int:
    """Return how many bytes of byte order mark stand before the text; InputError if *start* shows another format."""
    if start.startswith(codecs.BOM_UTF8):
        return len(codecs.BOM_UTF8)
    for signature, what in _FOREIGN_STARTS:
        if start.startswith(signature):
            raise InputError(f"{name} {what}.")
    if encoding := _NUL_PATTERNS.get(tuple(byte == 0 for byte in start[:4])):
        raise InputError(f"{name} looks like {encoding[:6]}: {_UTF8.format(encoding)}.")
    return 0


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
