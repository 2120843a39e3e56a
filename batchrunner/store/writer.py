"""The only writer: takes what is waiting, commits it as one transaction in a thread, wakes the waiters.

Group commit adapts by itself: while one commit is on its way to the disk the next group gathers.
"""

import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio import to_thread

from batchrunner.errors import StoreError
from batchrunner.failpoints import Point, reach
from batchrunner.store.refusal import ROW_ERRORS, Refusal, wait_for_locks
from batchrunner.store.rescue import Rescue
from batchrunner.store.transactions import transaction


class Change(Protocol):
    """Something to write. `write` runs inside the group's transaction, in the writer's thread."""

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Make the change with *cursor*."""
        ...


_RowError = sqlite3.Error | UnicodeError | OverflowError


@dataclass(slots=True)
class Group:
    """Changes that are committed together, and the event their waiters wait for."""

    changes: list[Change] = field(default_factory=list)
    done: anyio.Event = field(default_factory=anyio.Event)
    written: int = 0  #: So many of `changes`, from the first, are committed or refused for good.
    refused: dict[int, _RowError] = field(default_factory=dict)  #: By id() of the change.
    lost: StoreError | None = None
    rescued: bool = False  #: The store was given up: its answers are in a rescue file, nothing of it is in the store.

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

    def __init__(
        self,
        conn: sqlite3.Connection,
        *,
        complain: Callable[[str], None],
        rescue: Rescue | None = None,
        given_up: Callable[[], None] | None = None,
    ) -> None:
        """Write to *conn*; *complain* is told in a sentence when the disk refuses and when it gives in.

        When the store is given up, *given_up* is called and what comes from then on goes to *rescue*; without one it is
        lost, and whoever waits for it gets a `StoreError`.
        """
        self._conn = conn
        self._complain = complain
        self._rescue = rescue
        self._given_up = given_up or (lambda: None)
        self._gathering = Group()
        self._wake = anyio.Event()
        self._closing = False
        self._lost: StoreError | None = None
        self._thread = anyio.CapacityLimiter(1)
        self._deadline = math.inf  # no refusal is waited out beyond this instant of the loop
        self._hurried = anyio.Event()
        self._steady = anyio.Event()  # set unless the store refuses
        self._steady.set()
        wait_for_locks(conn)

    @property
    def is_steady(self) -> bool:
        """Whether the store takes what it is given, as far as is known."""
        return self._steady.is_set()

    async def steady(self) -> None:
        """Return at once, or when the store takes again what it is given."""
        await self._steady.wait()

    def hurry(self, within_s: float) -> None:
        """Somebody waits for the end: give the store up if it cannot be written within so many seconds from now on."""
        self._deadline = min(self._deadline, anyio.current_time() + within_s)
        self._hurried.set()
        self._hurried = anyio.Event()

    def check(self) -> None:
        """Raise `StoreError` if the store was given up: what was submitted since is not in it."""
        if self._lost is not None:
            raise self._lost if self._rescue is None else self._rescue.told(self._lost)

    def submit(self, change: Change) -> Group:
        """Add *change* to the group that is committed next, and return that group."""
        self._gathering.changes.append(change)
        self._wake.set()
        return self._gathering

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
                if self._lost is None:
                    await self._commit(group)
                if self._lost is not None:
                    await self._save(group)
                group.done.set()

    async def _commit(self, group: Group) -> None:
        """Commit *group*, however often it must be tried; or give the store up."""
        refusal: Refusal | None = None
        while True:
            try:
                await to_thread.run_sync(_commit_group, self._conn, group, limiter=self._thread)
            except sqlite3.Error as error:
                if refusal is None:
                    refusal, self._steady = Refusal(anyio.current_time(), self._complain), anyio.Event()
                refusal.meet(error, anyio.current_time(), len(group.changes), self._deadline)
                if refusal.is_final:
                    self._lost = StoreError(f"The store {refusal.told}.")
                    self._complain(f"the store {refusal.told}: it is given up")
                    self._given_up()
                    return
                await self._pause(refusal.pause_s)
            else:
                if refusal is not None:
                    refusal.over()
                    self._steady.set()
                return

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._hurried.wait()

    async def _save(self, group: Group) -> None:
        """Keep the answers of a *group* that the store cannot take."""
        if self._rescue is None:
            group.lost = self._lost
            return
        known = len(self._rescue.paths)
        try:
            await to_thread.run_sync(self._rescue.keep, group.changes[group.written :], limiter=self._thread)
        except StoreError as error:
            group.lost = self._lost = error
        else:
            group.rescued = True
        for path in self._rescue.paths[known:]:
            self._complain(f"finished answers are kept in {path}; the next run on this store takes them in")


def _commit_group(conn: sqlite3.Connection, group: Group) -> None:
    """Commit what is left of *group*, in halves of halves if a row in it cannot be written."""
    step = len(group.changes) - group.written
    while group.written < len(group.changes):
        part = group.changes[group.written : group.written + step]
        try:
            _write(conn, part)
        except ROW_ERRORS as error:
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
        reach(Point.IN_TRANSACTION)
    reach(Point.COMMITTED)
