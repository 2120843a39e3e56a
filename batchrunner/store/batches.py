"""Batches on record: what was submitted, where it stands, and which requests sit in it."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchrunner.batch import BATCH_TRANSITIONS, Batch, BatchState, Remote, RowKey

TABLES = (
    # id TEXT of the API is `remote_id`; rows of a batch are the requests whose batch_id it is.
    """CREATE TABLE batches (
        id INTEGER PRIMARY KEY,
        nonce TEXT NOT NULL UNIQUE,        -- part of the row ids that were submitted
        remote_id TEXT UNIQUE,             -- the API's id; NULL: submitted, and the answer is not known
        state TEXT NOT NULL CHECK (state IN ({states})),
        run_id INTEGER NOT NULL,           -- that submitted it
        endpoint TEXT NOT NULL,            -- address
        requests INTEGER NOT NULL,
        bytes INTEGER NOT NULL,            -- of the body
        possible_usd REAL,                 -- it costs at most so much; NULL: prices are not known
        intended_at TEXT NOT NULL,         -- UTC stamps; this one from before it was sent
        created_at TEXT,                   -- as the API says
        expires_at TEXT,                   -- what is not done by then expires
        results_until TEXT,                -- the results can be downloaded until then
        cancel_asked_at TEXT,
        ended_at TEXT,
        collected_at TEXT,                 -- every result is in this store
        looked_at TEXT,                    -- when the API was asked last
        succeeded INTEGER,                 -- as the API counts its rows; NULL before its end
        errored INTEGER,
        canceled INTEGER,
        expired INTEGER
    )""".format(states=", ".join(f"'{state}'" for state in BatchState)),
    # the batch that a request sits in; NULL: none. It is claimed by nobody meanwhile.
    "ALTER TABLE requests ADD COLUMN batch_id INTEGER",
    # the batch that an attempt went by; NULL: a call of its own
    "ALTER TABLE attempts ADD COLUMN batch_id INTEGER",
    "CREATE INDEX requests_batch ON requests (batch_id, seq) WHERE batch_id IS NOT NULL",
)

_OPEN = ", ".join(f"'{state}'" for state in BatchState if state.is_open)
INTEND = """INSERT INTO batches (nonce, state, run_id, endpoint, requests, bytes, possible_usd, intended_at)
    VALUES (:nonce, 'submitting', :run_id, :endpoint, :requests, :bytes, :possible_usd, :intended_at)"""
# The guard: only what nobody else holds goes in.
PUT_IN = """UPDATE requests SET batch_id = (SELECT id FROM batches WHERE nonce = :nonce)
    WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'pending' AND batch_id IS NULL"""
TAKE_OUT = "UPDATE requests SET batch_id = NULL WHERE batch_id = :id AND batch_id IS NOT NULL"
TOLD = """UPDATE batches SET state = :state, remote_id = :remote_id, created_at = :created_at, expires_at = :expires_at,
    results_until = :results_until, ended_at = :ended_at, looked_at = :looked_at,
    succeeded = :succeeded, errored = :errored, canceled = :canceled, expired = :expired
    WHERE id = :id AND (remote_id IS NULL OR remote_id = :remote_id) AND state IN (SELECT value FROM json_each(:before))"""
ASKED_TO_CANCEL = "UPDATE batches SET cancel_asked_at = coalesce(cancel_asked_at, :at) WHERE id = :id"
CLOSED = """UPDATE batches SET state = :state, collected_at = :collected_at
    WHERE id = :id AND state IN (SELECT value FROM json_each(:before))"""
_BATCH = """SELECT id, nonce, state, requests, intended_at, remote_id, created_at, expires_at, cancel_asked_at,
    possible_usd FROM batches WHERE {} ORDER BY id"""
# Only fixed texts are ever put in.
OPEN = _BATCH.format(f"state IN ({_OPEN})")
BY_NONCE = _BATCH.format("nonce = :nonce")
ALL = "SELECT * FROM batches ORDER BY id"
KNOWN = "SELECT remote_id FROM batches WHERE remote_id IS NOT NULL"
SITTING = "SELECT count(*) FROM requests WHERE batch_id IS NOT NULL"
SITTING_IN = "SELECT count(*) FROM requests WHERE batch_id = :id AND batch_id IS NOT NULL"
LEFT_IN = (
    "SELECT seq, attempts + 1 FROM requests WHERE batch_id = :id AND batch_id IS NOT NULL ORDER BY seq LIMIT :count"
)


def has_batches(conn: sqlite3.Connection) -> bool:
    """Whether the store is of a schema that knows batches."""
    return conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'batches'").fetchone() is not None


def open_batches(conn: sqlite3.Connection) -> list[Batch]:
    """Return the batches that requests sit in, the oldest first."""
    if not has_batches(conn):
        return []
    return [_batch(row) for row in conn.execute(OPEN)]


def told(batches: Sequence[Batch], most: int = 3) -> list[str]:
    """Return what to call *batches* for people, the first few."""
    names = [batch.remote_id or "one whose answer was lost" for batch in batches]
    return names[:most] + (["..."] if len(names) > most else [])


def _batch(row: Sequence[Any]) -> Batch:
    number, nonce, state, *rest = tuple(row)
    return Batch(number, nonce, BatchState(state), *rest)


def batch_of(conn: sqlite3.Connection, nonce: str) -> Batch:
    """Return the batch with *nonce*; there must be one."""
    return _batch(conn.execute(BY_NONCE, {"nonce": nonce}).fetchone())


def known_ids(conn: sqlite3.Connection) -> set[str]:
    """Return the API's ids of all batches on record."""
    return {name for (name,) in conn.execute(KNOWN)}


def sitting(conn: sqlite3.Connection) -> int:
    """Return how many requests sit in batches."""
    return int(conn.execute(SITTING).fetchone()[0]) if has_batches(conn) else 0


def left_in(conn: sqlite3.Connection, batch_id: int, count: int) -> list[RowKey]:
    """Return up to *count* of the requests that sit in a batch."""
    return [RowKey(seq, number) for seq, number in conn.execute(LEFT_IN, {"id": batch_id, "count": count})]


def all_batches(conn: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yield every batch with all its columns and how many requests still sit in it; for people."""
    if not has_batches(conn):
        return
    for row in conn.execute(ALL):
        (inside,) = conn.execute(SITTING_IN, {"id": row["id"]}).fetchone()
        yield {**dict(row), "sitting": inside}


@dataclass(frozen=True, slots=True, eq=False)
class Intended:
    """A batch is about to be sent. Committed first, with its rows, so that no crash can lose track of it."""

    nonce: str
    run_id: int
    endpoint: str
    size: int  #: Bytes of the body.
    at: str
    keys: Sequence[RowKey]
    possible_usd: float | None = None  #: What it costs at most.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Insert the batch and let its requests sit in it; all of them or none."""
        batch: dict[str, Any] = {
            "nonce": self.nonce,
            "run_id": self.run_id,
            "endpoint": self.endpoint,
            "bytes": self.size,
        }
        batch |= {"requests": len(self.keys), "intended_at": self.at, "possible_usd": self.possible_usd}
        cursor.execute(INTEND, batch)
        cursor.execute(PUT_IN, {"nonce": self.nonce, "seqs": json.dumps([key.seq for key in self.keys])})
        if cursor.rowcount != len(self.keys):
            raise sqlite3.IntegrityError("a request of the batch is not pending, or sits in another one")


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What the API says of a batch, now that it was asked."""

    batch: int
    remote: Remote
    results_until: str | None
    at: str

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write it down; what would lead back to an earlier state changes nothing."""
        r = self.remote
        is_over = r.state is BatchState.ENDED
        before = [state for state, after in BATCH_TRANSITIONS.items() if r.state in after]
        counts = {
            name: getattr(r, name) if is_over else None for name in ("succeeded", "errored", "canceled", "expired")
        }
        facts = {"created_at": r.created_at, "expires_at": r.expires_at, "ended_at": r.ended_at, "remote_id": r.id}
        told = {
            "results_until": self.results_until,
            "looked_at": self.at,
            "state": r.state,
            "before": json.dumps(before),
        }
        cursor.execute(TOLD, {**facts, **told, **counts, "id": self.batch})


@dataclass(frozen=True, slots=True, eq=False)
class CancelAsked:
    """The API was asked to cancel a batch."""

    batch: int
    at: str

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Note when, the first time."""
        cursor.execute(ASKED_TO_CANCEL, {"id": self.batch, "at": self.at})


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """A batch is done with: collected, lost or withdrawn. Requests that still sit in it are free again."""

    batch: int
    state: BatchState
    at: str

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Close it."""
        before = json.dumps([state for state, after in BATCH_TRANSITIONS.items() if self.state in after])
        collected_at = self.at if self.state is BatchState.COLLECTED else None
        cursor.execute(CLOSED, {"id": self.batch, "state": self.state, "collected_at": collected_at, "before": before})
        if cursor.rowcount:
            cursor.execute(TAKE_OUT, {"id": self.batch})
