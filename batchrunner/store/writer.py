"""The only writer: takes what is waiting, commits it as one transaction in a thread, wakes the waiters.

Group commit adapts by itself: while one commit is on its way to the disk the next group gathers.
"""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio import to_thread

from batchrunner.errors import StoreError
from batchrunner.store.transactions import transaction

#: While the disk refuses, a group is tried again so often (seconds), for so long.
REFUSED_RETRY_S = 5.0
REFUSED_PATIENCE_S = 600.0


class Change(Protocol):
    """Something to write. `write` runs inside the group's transaction, in the writer's thread."""

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Make the change with *cursor*."""
        ...


_RowError = sqlite3.Error | UnicodeError | OverflowError

#: Errors of a single row, as against those of the disk or of a lock.
_ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    UnicodeError,
    OverflowError,
)


@dataclass(slots=True)
class Group:
    """Changes that are committed together, and the event their waiters wait for."""

    changes: list[Change] = field(default_factory=list)
    done: anyio.Event = field(default_factory=anyio.Event)
    written: int = 0  #: So many of `changes`, from the first, are committed or refused for good.
    refused: dict[int, _RowError] = field(default_factory=dict)  #: By id() of the change.
    lost: StoreError | None = None

    async def committed(self, change: Change) -> None:
        """Return when *change* is durable; raises `StoreError` if it, or the whole store, could not be written."""
        await self.done.wait()
        self.check(change)

    def check(self, change: Change) -> None:
        """Raise `StoreError` if *change*, whose group is done, could not be written."""
        if self.lost is not None:
            raise self.lost
        if (cause := self.refused.get(id(change))) is not None:
            raise StoreError(f"The store refused a row: {cause}.") from cause


class Writer:
    """Owns the writing connection. `submit` is synchronous: what was submitted survives its submitter."""

    def __init__(self, conn: sqlite3.Connection, *, complain: Callable[[str], None]) -> None:
        """Write to *conn*; *complain* is told in a sentence when the disk refuses and when it gives in."""
        self._conn = conn
        self._complain = complain
        self._gathering = Group()
        self._wake = anyio.Event()
        self._closing = False
        self._lost: StoreError | None = None
        self._thread = anyio.CapacityLimiter(1)

    def check(self) -> None:
        """Raise `StoreError` if the store was given up: what was submitted since is not in it."""
        if self._lost is not None:
            raise self._lost

    def submit(self, change: Change) -> Group:
        """Add *change* to the group that is committed next, and return that group."""
        self._gathering.changes.append(change)
        self._wake.set()
        return self._gathering

    def gathers(self, group: Group) -> bool:
        """Whether *group* still waits to be taken: what its changes hold may grow."""
        return group is self._gathering

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends, and then what is still waiting, whatever ended it."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._run)
            try:
                yield
            finally:
                self._closing = True
                self._wake.set()

    async def _run(self) -> None:
        with anyio.CancelScope(shield=True):
            while self._gathering.changes or not self._closing:
                if not self._gathering.changes:
                    await self._wake.wait()
                    self._wake = anyio.Event()
                    continue
                group, self._gathering = self._gathering, Group()
                await self._commit(group)
                group.done.set()

    async def _commit(self, group: Group) -> None:
        waited_s = 0.0
        while self._lost is None:
            try:
                await to_thread.run_sync(_commit_group, self._conn, group, limiter=self._thread)
            except sqlite3.Error as error:
                if waited_s >= REFUSED_PATIENCE_S:
                    self._lost = StoreError(f"The store could not be written for {waited_s:g} s: {error}.")
                    break
                if not waited_s:
                    self._complain(
                        f"the store cannot be written ({error}): sending is on hold, {len(group.changes)} changes "
                        f"wait in memory; trying again every {REFUSED_RETRY_S:g} s for {REFUSED_PATIENCE_S / 60:g} min; "
                        "if the disk is full, make room"
                    )
                await anyio.sleep(REFUSED_RETRY_S)
                waited_s += REFUSED_RETRY_S
            else:
                if waited_s:
                    self._complain("the store can be written again; going on")
                return
        group.lost = self._lost


def _commit_group(conn: sqlite3.Connection, group: Group) -> None:
    """Commit what is left of *group*, in halves of halves if a row in it cannot be written."""
    step = len(group.changes) - group.written
    while group.written < len(group.changes):
        part = group.changes[group.written : group.written + step]
        try:
            _write(conn, part)
        except _ROW_ERRORS as error:
            if len(part) > 1:
                step = (len(part) + 1) // 2
                continue
            group.refused[id(part[0])] = error
        group.written += len(part)
        step *= 2


def _write(conn: sqlite3.Connection, changes: Sequence[Change]) -> None:
    with transaction(conn) as cursor:
        for change in changes:
            change.write(cursor)
