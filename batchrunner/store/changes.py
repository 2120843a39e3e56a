"""What a run writes: each change is one value that knows its statements."""

import json
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchrunner.model import (
    UNKNOWN,
    Attempt,
    Bill,
    Decision,
    Fail,
    Failure,
    Halt,
    Outcome,
    Retry,
    Settlement,
    State,
    Success,
)
from batchrunner.policy.signature import signature
from batchrunner.store.groups import COUNT_ONE
from batchrunner.store.sharing import follow
from batchrunner.store.spending import SPENT, spent
from batchrunner.store.transactions import transaction

START = """INSERT INTO attempts (seq, number, run_id, lane, started_at, endpoint, price, possible_usd)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
UNSTART = "DELETE FROM attempts WHERE seq = ? AND number = ? AND ended_at IS NULL"
END = """UPDATE attempts SET ended_at = ?, outcome = ?, error_class = ?, http_status = ?, api_request_id = ?, message = ?,
    possibly_paid = ?, counted = ?, input_tokens = ?, output_tokens = ?, cache_write_tokens = ?, cache_read_tokens = ?,
    cache_write_1h_tokens = ?, web_searches = ?, service_tier = ?, speed = ?, geo = ?, price = ?, cost_usd = ?, possible_usd = ?
    WHERE seq = ? AND number = ?"""
RESULT = """INSERT OR REPLACE INTO results (seq, number, accepted, text, stop_reason, model, message)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
# The guard: a late answer to a request that is final, or that a newer attempt holds, changes nothing.
MOVE = """UPDATE requests SET state = ?, attempts = ?, error_class = ?, signature = ?, error_message = ?, not_before = ?,
    finished_at = ? WHERE seq = ? AND state = 'pending' AND attempts < ?"""
TOTALS = {
    State.SUCCEEDED: "UPDATE job SET succeeded = succeeded + 1",
    State.FAILED: "UPDATE job SET failed = failed + 1",
}
HEARTBEAT = "UPDATE runs SET heartbeat_at = ? WHERE id = ?"
# One entry more at the end of the list.
NOTE_CHANGE = "UPDATE runs SET changes = json_insert(changes, '$[#]', json(?)) WHERE id = ?"
KEEP_ENDPOINTS = "UPDATE runs SET endpoints = ? WHERE id = ?"
END_RUN = "UPDATE runs SET heartbeat_at = :at, ended_at = :at, ending = :ending, reason = :reason WHERE id = :id"


@dataclass(frozen=True, slots=True, eq=False)
class Started:
    """An attempt is about to be sent. Committed first, so that a crash leaves its trace."""

    attempt: Attempt
    run_id: int
    at: str
    endpoint: str | None = None  #: Its name, if the run's have names.
    most: Bill = UNKNOWN  #: What it may cost.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Insert the attempt's row, without an end."""
        a = self.attempt
        cursor.execute(
            START,
            (a.seq, a.number, self.run_id, a.lane, self.at, self.endpoint, self.most.price, self.most.possible_usd),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Unstarted:
    """An attempt that was started on paper never went out."""

    attempt: Attempt

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Take the start back."""
        cursor.execute(UNSTART, (self.attempt.seq, self.attempt.number))


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """An attempt's end: its row, its answer, its request's new state and the totals, all in one transaction."""

    settlement: Settlement
    endpoint: str | None = None  #: As of `Started`.
    followers: "array[int]" = field(default_factory=lambda: array("q"))  #: `seq` of those that shared its fate.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write the settlement; only a request that is still pending moves."""
        s = self.settlement
        seq, number = s.attempt.seq, s.attempt.number
        bill = s.bill
        columns = end_columns(s.outcome, counted=is_counted(s.decision))
        cursor.execute(END, (s.ended_at, *columns, bill.price, bill.cost_usd, bill.possible_usd, seq, number))
        answer = s.outcome if isinstance(s.outcome, Success) else s.outcome.answer
        if answer is not None:
            accepted = isinstance(s.outcome, Success)
            row = (seq, number, accepted, answer.text, answer.stop_reason, answer.model, answer.message)
            cursor.execute(RESULT, row)
        cursor.execute(SPENT, spent(s, self.endpoint or ""))
        state = next_state(s)
        finished_at = None if state is State.PENDING else s.ended_at
        blame = to_blame(s.outcome)
        cursor.execute(MOVE, (state, number, *blame, s.not_before, finished_at, seq, number))
        if state in TOTALS and cursor.rowcount:
            cursor.execute(TOTALS[state])
            if state is State.FAILED:
                error_class, signed, _ = blame
                cursor.execute(COUNT_ONE, (error_class, signed, finished_at, finished_at))
            if s.attempt.answers_others:
                names = ("error_class", "signature", "message")
                fate = {"state": str(state), "at": finished_at, **dict(zip(names, blame, strict=True))}
                self.followers[:] = follow(cursor, seq, number, fate)


_NO_USAGE = (None,) * 9


def next_state(settlement: Settlement) -> State:
    """Return the state that *settlement* leads to."""
    match settlement.decision:
        case None:
            return State.SUCCEEDED
        case Fail():
            return State.FAILED
        case Retry() | Halt():
            return State.PENDING


def is_counted(decision: Decision | None) -> bool:
    """Whether a failure that was decided so uses up an attempt of its request."""
    return decision.counted if isinstance(decision, Retry) else not isinstance(decision, Halt)


def end_columns(outcome: Outcome, *, counted: bool) -> tuple[Any, ...]:
    """Return what an attempt's row says of its end: outcome, class, status, ids, message, tokens."""
    if isinstance(outcome, Success):
        head: tuple[Any, ...] = ("success", None, 200, outcome.api_request_id, None, False, counted)
        answer: Success | None = outcome
    else:
        message = outcome.message if outcome.body is None else f"{outcome.message}\n{outcome.body}"
        head = (
            "failure",
            outcome.error_class,
            outcome.http_status,
            outcome.api_request_id,
            message,
            outcome.possibly_paid,
            counted,
        )
        answer = outcome.answer
    if answer is None:
        return (*head, *_NO_USAGE)
    usage = answer.usage
    return (
        *head,
        *usage.counts,
        usage.cache_write_1h_tokens,
        usage.web_searches,
        usage.service_tier,
        usage.speed,
        usage.geo,
    )


def to_blame(outcome: Outcome) -> tuple[str | None, str | None, str | None]:
    """Return class, signature and message of a failure; nothing of a success."""
    if not isinstance(outcome, Failure):
        return None, None, None
    return outcome.error_class, signature(outcome.message), outcome.message


@dataclass(frozen=True, slots=True, eq=False)
class Heartbeat:
    """The run is alive. For people; ownership is the kernel's lock."""

    run_id: int
    at: str

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Renew the run's heartbeat."""
        cursor.execute(HEARTBEAT, (self.at, self.run_id))


@dataclass(frozen=True, slots=True, eq=False)
class EndpointsKept:
    """What became of the run's endpoints so far."""

    run_id: int
    endpoints: Sequence[Mapping[str, Any]]  #: Plain JSON values: name, calls, answered, state, reason, ...

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Put it in place of what was known before."""
        cursor.execute(KEEP_ENDPOINTS, (json.dumps(list(self.endpoints)), self.run_id))


@dataclass(frozen=True, slots=True, eq=False)
class Retuned:
    """The run was told to go on in another way while it worked."""

    run_id: int
    at: str
    what: str  #: A sentence for people.
    now: Mapping[str, Any]  #: What is in force from now on: `concurrency`, `rate`, `paused`; plain JSON values.
    wish: str  #: The wish that asked for it.
    refused: bool = False  #: It could not be done; all is as it was.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Add the change to the run's list."""
        entry: dict[str, Any] = {"at": self.at, "what": self.what, "now": dict(self.now), "wish": self.wish}
        if self.refused:
            entry["refused"] = True
        cursor.execute(NOTE_CHANGE, (json.dumps(entry), self.run_id))


@dataclass(frozen=True, slots=True, eq=False)
class RunEnded:
    """The run is over."""

    run_id: int
    at: str
    ending: str  #: finished, halted, interrupted, ...
    reason: str | None

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write the run's end."""
        cursor.execute(END_RUN, {"at": self.at, "ending": self.ending, "reason": self.reason, "id": self.run_id})


BEGIN_RUN = """INSERT INTO runs (version, settings, host, pid, started_at, heartbeat_at)
    VALUES (:version, :settings, :host, :pid, :at, :at)"""
# Attempts that a crash left open have numbers that their requests do not know of yet.
CATCH_UP = """UPDATE requests SET attempts = (SELECT max(number) FROM attempts WHERE seq = requests.seq)
    WHERE seq IN (SELECT seq FROM attempts WHERE ended_at IS NULL) AND state = 'pending'"""
# A wall clock that was set back since must not hold a retry for longer than any rule would.
CLAMP_DUE = """UPDATE requests INDEXED BY requests_due SET not_before = :latest
    WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL AND not_before > :latest"""
CLOSE_DEAD_RUNS = "UPDATE runs SET ended_at = heartbeat_at, ending = 'died' WHERE ended_at IS NULL"


def recover(conn: sqlite3.Connection) -> None:
    """Take note of what a run that died left behind. The caller owns the store."""
    with transaction(conn) as cursor:
        cursor.execute(CLOSE_DEAD_RUNS)
        cursor.execute(CATCH_UP)


def last_endpoints(conn: sqlite3.Connection) -> list[str]:
    """Return where the latest run sent, as it put it on record: an address, or `NAME ADDRESS` for each named endpoint."""
    row = conn.execute("SELECT settings FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    settings = json.loads(row[0]) if row else {}
    return settings.get("endpoints") or [address for address in [settings.get("endpoint")] if address]


def run_identity(conn: sqlite3.Connection, run_id: int) -> dict[str, Any]:
    """Return what tells a run from every run of any store: its id, host, pid and start."""
    names = ("id", "host", "pid", "started_at")
    row = conn.execute("SELECT id, host, pid, started_at FROM runs WHERE id = ?", (run_id,)).fetchone()
    return dict(zip(names, row, strict=True))


def begin_run(conn: sqlite3.Connection, run: Mapping[str, Any], settings: Mapping[str, Any], latest_due: str) -> int:
    """Put a run on record and return its id. The caller owns the store.

    *run* has version, host, pid and at (UTC stamp); *latest_due* is the stamp that no retry may wait beyond.
    """
    with transaction(conn) as cursor:
        cursor.execute(CLAMP_DUE, {"latest": latest_due})
        cursor.execute(BEGIN_RUN, {**run, "settings": json.dumps(settings)})
        run_id = cursor.lastrowid
    if run_id is None:
        raise AssertionError("an INSERT without a row id")
    return run_id
