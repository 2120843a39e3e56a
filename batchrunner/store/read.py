"""What can be asked of a store, also while a run writes to it. Nothing here changes a byte."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from batchrunner.errors import StoreError
from batchrunner.store.files import open_reader

if TYPE_CHECKING:
    from sqlite_utils import Database

#: A run that has shown no sign of life for so long is taken for dead.
HEARTBEAT_FRESH_S = 20.0

_MAPPED_BYTES = 2**30

#: The columns of an export, in their order; a column per metadata key follows.
EXPORT_COLUMNS = (
    "custom_id",
    "status",
    "text",
    "stop_reason",
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_usd",
    "attempts",
    "latency_s",
    "error_class",
    "error_message",
    "api_request_id",
)

# The literal predicates are those of the partial indexes; without the hints SQLite, which may have no statistics yet,
# walks the index on `line` and looks up every row.
FINISHED_SINCE = "SELECT count(*) AS n FROM requests NOT INDEXED WHERE finished_at >= :since AND line IS NOT NULL"
RETRYING = """SELECT count(*) AS count, min(not_before) AS next_at FROM requests INDEXED BY requests_due
    WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL"""
UNSETTLED = """SELECT error_class, count(*) AS count FROM requests NOT INDEXED
    WHERE state = 'pending' AND error_class IS NOT NULL AND line IS NOT NULL
    GROUP BY error_class ORDER BY count(*) DESC, error_class"""
GROUPS = """SELECT error_class, signature, count(*) AS count, min(finished_at) AS first_at, max(finished_at) AS last_at
    FROM requests INDEXED BY requests_failed
    WHERE state = 'failed' AND line IS NOT NULL AND (:error_class IS NULL OR error_class = :error_class)
    GROUP BY error_class, signature ORDER BY count(*) DESC, error_class, signature LIMIT :limit"""
EXAMPLES = """SELECT custom_id, error_message FROM requests INDEXED BY requests_failed
    WHERE state = 'failed' AND error_class IS :error_class AND signature IS :signature AND line IS NOT NULL
    ORDER BY seq LIMIT 3"""
FAILED = """SELECT custom_id, line, error_class, error_message AS message, attempts
    FROM requests INDEXED BY requests_line
    WHERE line IS NOT NULL AND state = 'failed' AND (:error_class IS NULL OR error_class = :error_class)
    ORDER BY line"""
# A full walk in the order of the primary key: no attempt is sorted, none is held. Only this fixed text is ever put in.
_UNANSWERED = "(a.possibly_paid = 1 OR (a.ended_at IS NULL AND a.run_id IS NOT :living))"
_DUPLICATES_COUNT = "SELECT count(*) AS n FROM attempts a WHERE {unanswered}"
_DUPLICATES = """SELECT q.custom_id, q.line, a.number, a.started_at, a.ended_at, a.error_class, r.ending,
        EXISTS (SELECT 1 FROM attempts n WHERE n.seq = a.seq AND n.number > a.number) AS sent_again
    FROM attempts a CROSS JOIN requests q ON q.seq = a.seq LEFT JOIN runs r ON r.id = a.run_id
    WHERE {unanswered} ORDER BY a.seq, a.number"""
DUPLICATES_COUNT = _DUPLICATES_COUNT.format(unanswered=_UNANSWERED)
DUPLICATES = _DUPLICATES.format(unanswered=_UNANSWERED)
METADATA = """SELECT i.metadata FROM requests q INDEXED BY requests_line CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.line IS NOT NULL AND i.metadata IS NOT NULL ORDER BY q.line"""
_EXPORT = "SELECT {columns}, metadata FROM results_flat WHERE line IS NOT NULL ORDER BY line"
EXPORT = _EXPORT.format(columns=", ".join(EXPORT_COLUMNS))


@dataclass(frozen=True, slots=True)
class Job:
    """What the store belongs to."""

    input_path: str
    simulated: bool  #: The answers are the simulator's.
    created_at: str
    import_completed_at: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How many requests of the latest input stand where; `removed` ones are in the store only."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    pending: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One process that worked, or works, on the store."""

    id: int
    version: str
    host: str
    pid: int
    started_at: str
    heartbeat_at: str
    ended_at: str | None
    ending: str | None  #: finished, halted, interrupted, died, ...
    reason: str | None

    def is_alive(self, now: datetime) -> bool:
        """Whether the run has not ended and has shown a sign of life in the last `HEARTBEAT_FRESH_S` seconds."""
        return self.ended_at is None and abs(seconds_between(self.heartbeat_at, now)) < HEARTBEAT_FRESH_S


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed requests with the same class and, but for numbers and ids, the same message."""

    error_class: str
    signature: str
    count: int
    message: str  #: Of the first of them.
    first_at: str
    last_at: str
    custom_ids: tuple[str, ...]  #: The first three.


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A request that was given up."""

    custom_id: str
    line: int
    error_class: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What the attempts of one lane used. Sums of what the API reported; None: nothing was reported."""

    lane: str
    attempts: int
    answered: int
    possibly_paid: int
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Retrying:
    """Requests that wait for their next attempt."""

    count: int
    next_at: str | None


@dataclass(frozen=True, slots=True)
class PossibleDuplicate:
    """An attempt that may have been paid for although no answer came of it."""

    custom_id: str
    line: int | None  #: None: no line of the latest input any more.
    number: int  #: Of the attempt.
    started_at: str
    reason: str  #: What became of it: `in flight when the run died`, or its error class.
    sent_again: bool  #: A later attempt was made.


class Reader:
    """A store as it is at one moment: all answers of one `with` block speak of the same snapshot.

    `with Reader(path) as reader:` raises `UsageError` if there is no store, `StoreError` if it is none of ours, and
    turns every error of SQLite inside the block into a `StoreError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection
        self._db: Database

    def __enter__(self) -> Self:
        # Loaded only for a store that is there: it takes a tenth of a second.
        conn = open_reader(self.path)
        from sqlite_utils import Database

        self._conn, self._db = conn, Database(conn, execute_plugins=False)
        conn.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._conn.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise StoreError(
                f"{self.path} cannot be read: {error}. Try again; if it stays so, `sqlite3 {self.path} .recover` saves "
                "what can be read."
            ) from error

    def job(self) -> Job | None:
        """Return what the store belongs to; None as long as no job file was taken in completely."""
        for row in self._db.query(
            "SELECT input_path, simulated, created_at, import_completed_at FROM job WHERE import_completed_at IS NOT NULL"
        ):
            return Job(**{**row, "simulated": bool(row["simulated"])})
        return None

    def progress(self) -> Progress:
        """Return the totals; all zero as long as no job file was taken in completely."""
        for row in self._db.query("SELECT requests, succeeded, failed, pending, removed FROM progress"):
            return Progress(**row)
        return Progress()

    def latest_runs(self, count: int = 1) -> list[Run]:
        """Return the latest *count* runs, newest first."""
        rows = self._db.query(
            "SELECT id, version, host, pid, started_at, heartbeat_at, ended_at, ending, reason FROM runs "
            "ORDER BY id DESC LIMIT :count",
            {"count": count},
        )
        return [Run(**row) for row in rows]

    def is_running(self, now: datetime) -> bool:
        """Whether a run works on the store at *now* (UTC, aware)."""
        return self._living_run(now) is not None

    def finished_since(self, since: str) -> int:
        """Return how many requests became final at *since* (UTC stamp) or later. Reads every request."""
        return self._number(FINISHED_SINCE, {"since": since})

    def retrying(self) -> Retrying:
        """Return how many requests wait for an instant, and the earliest (UTC stamp)."""
        if self.job() is None:  # the indexes are built when the import is complete
            return Retrying(0, None)
        return Retrying(**next(iter(self._db.query(RETRYING))))

    def unsettled(self) -> dict[str, int]:
        """Return the pending requests whose latest attempt failed, by error class, most frequent first."""
        return {row["error_class"]: row["count"] for row in self._db.query(UNSETTLED)}

    def failure_groups(self, error_class: str | None = None, *, limit: int = 100) -> list[FailureGroup]:
        """Return the *limit* largest groups of failed requests, largest first; only of *error_class* if given."""
        if self.job() is None:
            return []
        # Failures of a group lie far apart in the table. Mapped into memory, a million of them are read in half the time.
        self._conn.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES:d}")
        groups = list(self._db.query(GROUPS, {"error_class": error_class, "limit": limit}))
        self._conn.execute("PRAGMA mmap_size = 0")
        return [self._with_examples(group) for group in groups]

    def failed_requests(self, error_class: str | None = None) -> Iterator[FailedRequest]:
        """Yield every failed request, in the order of the input; only those of *error_class* if given."""
        if self.job() is not None:
            for row in self._conn.execute(FAILED, {"error_class": error_class}):
                yield FailedRequest(**dict(row))

    def tokens(self) -> list[Spend]:
        """Return what was used, per lane. Reads every attempt."""
        return [Spend(**row) for row in self._db.query("SELECT * FROM spend ORDER BY lane")]

    def count_possible_duplicates(self, now: datetime) -> int:
        """Return how many attempts `possible_duplicates` yields."""
        return self._number(DUPLICATES_COUNT, {"living": self._living_run(now)})

    def possible_duplicates(self, now: datetime) -> Iterator[PossibleDuplicate]:
        """Yield the attempts that may have been paid for without an answer, by order of arrival.

        They are those that never ended although their run is over or dead at *now* (UTC, aware), and those that
        failed in a way that leaves it open whether the server worked.
        """
        for row in self._conn.execute(DUPLICATES, {"living": self._living_run(now)}):
            yield PossibleDuplicate(
                custom_id=row["custom_id"],
                line=row["line"],
                number=row["number"],
                started_at=row["started_at"],
                reason=_reason(row),
                sent_again=bool(row["sent_again"]),
            )

    def export_rows(self) -> Iterator[sqlite3.Row]:
        """Yield one row per request of the latest input, in its order: `EXPORT_COLUMNS`, then `metadata` (JSON text)."""
        if self.job() is not None:
            yield from self._conn.execute(EXPORT)

    def metadata(self) -> Iterator[str]:
        """Yield the metadata (JSON object text) of the requests that have any, in the order of the input."""
        if self.job() is not None:
            for (text,) in self._conn.execute(METADATA):
                yield text

    def _living_run(self, now: datetime) -> int | None:
        # Only one run owns a store at a time, so only the newest can be alive.
        return next((run.id for run in self.latest_runs(1) if run.is_alive(now)), None)

    def _with_examples(self, group: dict[str, Any]) -> FailureGroup:
        which = {"error_class": group["error_class"], "signature": group["signature"]}
        examples = list(self._db.query(EXAMPLES, which))
        ids = tuple(row["custom_id"] for row in examples)
        return FailureGroup(**group, message=examples[0]["error_message"], custom_ids=ids)

    def _number(self, sql: str, params: dict[str, Any]) -> int:
        return int(next(iter(self._db.query(sql, params)))["n"])


def seconds_between(stamp: str, now: datetime) -> float:
    """Return the seconds from *stamp* (as the store writes it) to *now* (UTC, aware); negative if it lies ahead."""
    return (now - datetime.fromisoformat(stamp)).total_seconds()


_IN_FLIGHT = {"died": "died", None: "died", "interrupted": "was interrupted", "terminated": "was interrupted"}


def _reason(row: sqlite3.Row) -> str:
    if row["ended_at"] is None:
        return f"in flight when the run {_IN_FLIGHT.get(row['ending'], 'ended')}"
    return str(row["error_class"])
