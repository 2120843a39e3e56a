"""From the bytes of a job file to its lines: flat memory, and no line is given up for another's fault."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from batchrunner.jobfile.packed import GZIP_START, unpacked
from batchrunner.jobfile.source import BLOCK_BYTES, Fingerprint, PathOrStream, Source, text_starts_at

#: The API takes no larger request body, so no longer line could be sent.
MAX_LINE_BYTES = 32 * 1024 * 1024


class Line(NamedTuple):
    """One line that is not blank."""

    number: int  #: Counts from 1; blank lines count.
    offset: int  #: Byte of the file where the line begins, from 0.
    data: bytes  #: Without its line end; not to be read if there is a fault.
    fault: str | None = None  #: Why the line was not loaded.
    row: int | None = None  #: Of a table, whose rows may take several lines; counts from 1 below the header.


#: Makes lines of the blocks of a text, the first of which stands at an offset.
Split = Callable[[Iterable[bytes], int], Iterator[Line]]


class LineReader:
    """The lines of one source, to be iterated once: `for line in reader`."""

    def __init__(self, source: Source, split: Split) -> None:
        self._source = source
        self._lines = self._split(split)

    def __iter__(self) -> Iterator[Line]:
        """Return the generator itself: a loop then costs no call of ours per line."""
        return self._lines

    def __next__(self) -> Line:
        return next(self._lines)

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, for progress; runs ahead of the lines by at most a block."""
        return self._source.bytes_read

    @property
    def fingerprint(self) -> Fingerprint:
        """Size and SHA-256 of the whole source, known once the last line has been read; RuntimeError before."""
        return self._source.fingerprint

    def _split(self, split: Split) -> Iterator[Line]:
        blocks = self._source.blocks()
        start = next(blocks, b"")
        if start.startswith(GZIP_START):
            blocks = unpacked(chain([start], blocks), self._source.name)
            start = next(blocks, b"")
        skipped = text_starts_at(start, self._source.name)
        yield from split(chain([start[skipped:]], blocks), skipped)


def read_lines(
    source: PathOrStream,
    *,
    max_line_bytes: int = MAX_LINE_BYTES,
    block_bytes: int = BLOCK_BYTES,
    split: Split | None = None,
) -> LineReader:
    r"""Return the lines of a file (opened at the first line, closed after the last) or of an open binary stream.

    Lines end in `\n` or `\r\n`, the last one need not. Blank lines are passed over, a byte order mark at the start is
    not part of the text. A line above *max_line_bytes* comes with a fault instead of data and is never held in memory.
    What gzip packed is unpacked on the way. *split* makes lines of other texts than these.
    Iterating raises InputError if the file is missing, unreadable or no regular file, or begins like no UTF-8 text.
    """

    def plain(blocks: Iterable[bytes], offset: int) -> Iterator[Line]:
        return split_lines(blocks, max_line_bytes=max_line_bytes, offset=offset)

    return LineReader(Source(source, block_bytes=block_bytes), split or plain)


def split_lines(blocks: Iterable[bytes], *, max_line_bytes: int = MAX_LINE_BYTES, offset: int = 0) -> Iterator[Line]:
    r"""Yield the lines of a text given in blocks of any sizes, the first of which stands at *offset*.

    Only `\n` splits: a lone `\r`, U+2028 and the like are data.
    """
    number = 0
    head = _Head(max_line_bytes)
    for block in blocks:
        pieces = block.split(b"\n")
        last = pieces.pop()
        if pieces and head.length:
            head.add(pieces[0])
            if line := head.line(number + 1, offset):
                yield line
            offset += head.length
            head.clear()
            pieces[0] = b""  # Nothing is left of it but its end, which the loop counts.
        for piece in pieces:
            number += 1
            if len(piece) > max_line_bytes:
                yield _too_long(number, offset, len(piece), max_line_bytes)
            elif piece and not piece.isspace():
                yield Line(number, offset, piece.rstrip(b"\r"))
            offset += len(piece) + 1
        head.add(last)
    if line := head.line(number + 1, offset):
        yield line


class _Head:
    """The beginning of a line whose end has not come yet; let go once it is too long, and only measured from there."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self.length = 0

    def add(self, part: bytes) -> None:
        self.length += len(part)
        self._parts.append(part)
        if self.length > self._max_bytes:
            self._parts.clear()

    def line(self, number: int, offset: int) -> Line | None:
        """Return what has been added as a line, None if it is blank."""
        if self.length > self._max_bytes:
            return _too_long(number, offset, self.length, self._max_bytes)
        data = b"".join(self._parts)
        return None if not data or data.isspace() else Line(number, offset, data.rstrip(b"\r"))

    def clear(self) -> None:
        self._parts.clear()
        self.length = 0


def _too_long(number: int, offset: int, length: int, limit: int) -> Line:
    cause = f"{length:,} bytes long; the API takes at most {limit:,} in one request"
    return Line(number, offset, b"", cause)
