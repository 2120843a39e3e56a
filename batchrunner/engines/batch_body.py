"""The body of a batch in the making: on disk, so that memory does not grow with it."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import IO

from batchrunner.batch import RowKey
from batchrunner.failpoints import Point, reach

_HEAD, _BETWEEN, _TAIL = b'{"requests":[', b",\n", b"]}"
_CHUNK = 1 << 18
#: Smaller ones stay in memory.
_IN_MEMORY = 4 << 20


@dataclass(slots=True, eq=False)
class Filling:
    """Takes rows until it is full. Close it when it is sent."""

    most_rows: int
    most_bytes: int
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))  #: Tells this batch from all others.
    keys: list[RowKey] = field(default_factory=list)
    marks: list[Callable[[], None]] = field(default_factory=list)  #: To be called when it is out.
    size: int = len(_HEAD) + len(_TAIL)  #: Bytes.
    _file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._file.write(_HEAD)

    def row(self, key: RowKey, params: bytes) -> bytes:
        """Return the row of *params*, as it goes in."""
        return b'{"custom_id":"%s","params":%s}' % (key.row_id(self.nonce).encode(), params)

    def fits(self, row: bytes) -> bool:
        """Whether there is room for *row*; an empty batch takes any."""
        return not self.keys or (
            len(self.keys) < self.most_rows and self.size + len(_BETWEEN) + len(row) <= self.most_bytes
        )

    def add(self, key: RowKey, row: bytes, mark_sent: Callable[[], None]) -> None:
        """Take *row* in."""
        if self.keys:
            self._file.write(_BETWEEN)
            self.size += len(_BETWEEN)
        self._file.write(row)
        self.size += len(row)
        self.keys.append(key)
        self.marks.append(mark_sent)

    @property
    def room(self) -> int:
        """For so many rows at most."""
        return self.most_rows - len(self.keys)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, from its beginning."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield chunk
        reach(Point.BATCH_SENT)

    def seal(self) -> None:
        """Complete the body: nothing more is added."""
        self._file.write(_TAIL)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()
