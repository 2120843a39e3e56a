"""Job files and stores of many requests, made in bulk: the real schema, filled by a few statements."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchrunner.clock import SystemClock
from batchrunner.jobfile import Defaults, Format, LineReader, open_lines
from batchrunner.loading import Source, Watcher, load
from batchrunner.store.files import close_owner, open_owner, owned
from batchrunner.store.repeats import recount
from batchrunner.store.transactions import transaction

MODEL = "claude-haiku-4-5"
_AT_ONCE = 2_000
_FINISHED_AT_ONCE = 50_000

# What a run would have written, with an answer of some 200 characters. The instants are long past.
_SETTLED = (
    """INSERT INTO attempts (seq, number, run_id, lane, started_at, ended_at, outcome, http_status, api_request_id,
        input_tokens, output_tokens, cache_write_tokens, cache_read_tokens)
    SELECT seq, 1, 1, model_class, '2026-01-01T12:00:00.000Z', '2026-01-01T12:00:02.345Z', 'success', 200,
        'req_011CQ0000000000000' || (10000000 + seq), 30 + seq % 20, 40 + seq % 90, 0, 0
    FROM requests WHERE seq BETWEEN :first AND :last""",
    """INSERT INTO results (seq, number, accepted, text, stop_reason, model, message)
    SELECT seq, 1, 1, said, 'end_turn', 'claude-haiku-4-5-20251001',
        '{"model":"claude-haiku-4-5-20251001","id":"msg_011CQ0000000000000' || (10000000 + seq) || '","type":"message",'
        || '"role":"assistant","content":[{"type":"text","text":"' || said || '"}],"stop_reason":"end_turn",'
        || '"stop_sequence":null,"usage":{"input_tokens":31,"cache_creation_input_tokens":0,'
        || '"cache_read_input_tokens":0,"output_tokens":64,"service_tier":"standard"}}'
    FROM (SELECT seq, 'The sum of ' || seq || ' and ' || (seq * 7 % 1000) || ' is ' || (seq + seq * 7 % 1000)
        || ', since the units, the tens and the hundreds are added one after the other, and what goes beyond nine '
        || 'is carried over to the next place, as one learns it at school.' AS said
        FROM requests WHERE seq BETWEEN :first AND :last)""",
    """UPDATE requests SET state = 'succeeded', attempts = 1, finished_at = '2026-01-20T12:00:00.000Z'
    WHERE seq BETWEEN :first AND :last""",
)
_RUN = """INSERT OR IGNORE INTO runs (id, version, settings, host, pid, started_at, heartbeat_at, ended_at, ending)
    VALUES (1, '0', :settings, 'elsewhere', 1, '2026-01-01T00:00:00.000Z', '2026-01-20T12:00:00.000Z',
        '2026-01-20T12:00:00.000Z', 'interrupted')"""


def line(i: int) -> str:
    """Return line *i* of a job file: a request of 170 bytes, as the Message Batches API would take it."""
    return (
        f'{{"custom_id": "r{i}", "params": {{"model": "{MODEL}", "max_tokens": 256, "messages": [{{"role": "user", '
        f'"content": "Question {i}: what is {i} plus {i * 7 % 1000}? Explain briefly, in one sentence."}}]}}}}\n'
    )


class Generated:
    """A stream of so many lines that are made when they are read, and never all there."""

    name = "generated lines"

    def __init__(self, count: int) -> None:
        self._count = count
        self._made = 0

    def read(self, _size: int, /) -> bytes:
        """Return the next two thousand lines; nothing at the end."""
        first = self._made
        self._made = min(self._count, first + _AT_ONCE)
        return "".join(map(line, range(first, self._made))).encode()


@dataclass(frozen=True, slots=True)
class GeneratedSource(Source):
    """A job file that is not there: its lines are made while they are read."""

    count: int = 0

    def lines(self) -> LineReader:
        """Return the lines, not yet made."""
        return open_lines(Generated(self.count), Format.JSONL, self.name, None)


def generated(count: int) -> GeneratedSource:
    """Return a source of *count* lines."""
    return GeneratedSource(Path("generated.jsonl"), Defaults(max_tokens=1024), count=count)


def write_lines(path: Path, count: int) -> None:
    """Write a job file of *count* lines."""
    made = Generated(count)
    with path.open("wb") as file:
        while block := made.read(0):
            file.write(block)


@contextlib.contextmanager
def owning(store: Path) -> Iterator[sqlite3.Connection]:
    """Open *store* as its owner while the block lasts; it is made if it is not there."""
    with owned(store):
        conn = open_owner(store)
        try:
            yield conn
        finally:
            close_owner(conn)


def take_in(conn: sqlite3.Connection, path: Path) -> None:
    """Import the job file *path*."""
    load(conn, Source(path, Defaults(max_tokens=1024)), on_change=None, clock=SystemClock(), watcher=Watcher())


def finish(conn: sqlite3.Connection, first: int, last: int, settings: str = '{"endpoint": "simulator"}') -> None:
    """Answer the requests from *first* to *last*, by their order of arrival, none of which was tried, in a run long ago."""
    for begin in range(first, last + 1, _FINISHED_AT_ONCE):
        with transaction(conn) as cursor:
            for statement in _SETTLED:
                cursor.execute(statement, {"first": begin, "last": min(last, begin + _FINISHED_AT_ONCE - 1)})
    with transaction(conn) as cursor:
        cursor.execute(_RUN, {"settings": settings})
        recount(cursor)
