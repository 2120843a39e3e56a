"""Those who listen while a run works: told of each request that became final, and heard when they fall behind."""

import gc
from collections import deque
from typing import Protocol

import anyio


class Audience(Protocol):
    """Listens to a run. It may hold back the sending, never the saving."""

    def began(self, run_id: int) -> None:
        """Sending begins; the run is on record under this id."""
        ...

    def final(self, seq: int) -> None:
        """The request with this place in the store has its end, and that is durable."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether there is room for one more; asked before each attempt is admitted."""
        ...

    async def room(self) -> None:
        """Return when there is room for one more; waited for where there is none, never in a slot."""
        ...


class Nobody:
    """Hears nothing and holds up nobody."""

    def began(self, run_id: int) -> None:
        """Hear nothing."""

    def final(self, seq: int) -> None:
        """Hear nothing."""

    @property
    def has_room(self) -> bool:
        """Whether there is room: always."""
        return True

    async def room(self) -> None:
        """Return at once."""


class OwnProcess(Nobody):
    """Hears nothing, in a process that is there for one run alone."""

    def began(self, run_id: int) -> None:  # noqa: ARG002 - told to all who listen
        """Take what is loaded by now out of the garbage collector's sight.

        It stays until the process ends, and to look through some 500,000 objects again and again is a tenth of what a
        request costs.
        """
        gc.freeze()


class Buffer:
    """Keeps what became final until somebody takes it; full, it holds back further sending.

    It holds at most *size* requests and those that were already in flight when it got full.
    """

    def __init__(self, size: int) -> None:
        self.run_id: int | None = None  #: None: the run sent nothing, or has not begun to.
        self._size = size
        self._seqs: deque[int] = deque()
        self._closed = False
        self._started = anyio.Event()
        self._filled = anyio.Event()
        self._emptied = anyio.Event()

    def began(self, run_id: int) -> None:
        """Note the run."""
        self.run_id = run_id
        self._started.set()

    def final(self, seq: int) -> None:
        """Keep *seq*."""
        self._seqs.append(seq)
        self._filled.set()

    @property
    def has_room(self) -> bool:
        """Whether less than *size* are kept."""
        return len(self._seqs) < self._size

    async def room(self) -> None:
        """Wait until less than *size* are kept."""
        while not self.has_room:
            if self._emptied.is_set():
                self._emptied = anyio.Event()
            await self._emptied.wait()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._started.set()
        self._filled.set()

    async def started(self) -> None:
        """Wait until the run sends, or is over without having sent."""
        await self._started.wait()

    async def take(self, most: int) -> list[int]:
        """Return 1 to *most* of what is kept, in order; nothing when nothing more will come."""
        while not self._seqs and not self._closed:
            self._filled = anyio.Event()
            await self._filled.wait()
        taken = [self._seqs.popleft() for _ in range(min(most, len(self._seqs)))]
        self._emptied.set()
        return taken
