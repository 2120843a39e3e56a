"""Files packed by gzip, unpacked block by block: a small file that unpacks to a huge one takes no more memory for it."""

import zlib
from collections.abc import Iterator

from batchrunner.errors import InputError
from batchrunner.jobfile.source import BLOCK_BYTES

#: What a file packed by gzip begins with, whatever its name.
GZIP_START = b"\x1f\x8b"
_GZIP_BITS = 16 + zlib.MAX_WBITS


def unpacked(blocks: Iterator[bytes], name: str, *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield what *blocks* of gzip members hold, the first block with at least four bytes if there are four.

    InputError if they are damaged or end too early.
    """
    start = b""
    pieces = _pieces(blocks, name, block_bytes)
    for piece in pieces:
        start += piece
        if len(start) >= 4:
            break
    yield start
    yield from pieces


def _pieces(blocks: Iterator[bytes], name: str, block_bytes: int) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_BITS)
    waiting, empty = b"", True  # empty: nothing of this member has come yet
    try:
        for block in blocks:
            waiting += block
            if empty:  # Members may follow each other; zeros after the last are padding.
                waiting = waiting.lstrip(b"\0")
            while waiting:
                piece = member.decompress(waiting, block_bytes)
                empty = False
                if piece:
                    yield piece
                waiting = member.unconsumed_tail
                if member.eof:
                    waiting = member.unused_data.lstrip(b"\0")
                    member, empty = zlib.decompressobj(_GZIP_BITS), True
    except zlib.error as error:
        raise InputError(f"{name} is no sound gzip file ({error}): pack it again.") from error
    if not empty:
        raise InputError(f"{name} ends too early: the gzip file is cut. Copy it again.")
