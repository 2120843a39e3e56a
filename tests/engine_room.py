"""A run's engine room for tests: the real store, queue, writer, lanes and dispatcher, without an engine."""

import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchrunner.api.sender import Senders
from batchrunner.assembly import Means, assemble
from batchrunner.audience import Nobody
from batchrunner.dispatcher import Dispatcher
from batchrunner.endpoint import Way
from batchrunner.lane import Lane
from batchrunner.model import Request
from batchrunner.settings import Limits, RunSettings
from batchrunner.store.files import open_reader
from batchrunner.store.queue import Queue
from batchrunner.store.writer import Writer
from builders import opened_store, run_on, take_in
from virtual import VirtualClock, inline_threads


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """What stands in it."""

    conn: sqlite3.Connection
    writer: Writer
    dispatcher: Dispatcher
    run_id: int
    clock: VirtualClock
    notes: list[str] = field(default_factory=list)

    @property
    def lane(self) -> Lane:
        """The first lane."""
        return self.dispatcher.lanes[0]


@contextlib.asynccontextmanager
async def engine_room(
    path: Path,
    requests: Iterable[Request],
    limits: Limits | None = None,
    *,
    connections: int = 500,
    sent_before: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[EngineRoom]:
    """Assemble a run on *requests*; to be called in virtual time. The writer works until the block ends."""
    notes: list[str] = []
    clock = VirtualClock()
    with inline_threads(0.002), opened_store(path) as conn:
        take_in(conn, requests)
        run_id = run_on(conn)
        with contextlib.closing(open_reader(path)) as reading:
            writer = Writer(conn, complain=notes.append)
            means = Means(RunSettings(limits=limits or Limits()), clock, random.Random(1), Nobody())
            way = Way(Senders(None, None), True, {}, connections)  # type: ignore[arg-type]  # nothing is sent
            queue = Queue(reading)
            pools: dict[tuple[str, str | None], Sequence[str]] = {
                (lane, None): instants for lane, instants in (sent_before or {}).items()
            }
            dispatcher = assemble(means, way, queue, writer, run_id=run_id, sent_before=pools)
            async with writer.running():
                yield EngineRoom(conn, writer, dispatcher, run_id, clock, notes)
