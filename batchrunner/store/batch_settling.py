"""Settling many attempts of a batch at once: the same rows as single settlements write, in a few statements."""

import json
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchrunner.model import Settlement, State, Success
from batchrunner.store.changes import RESULT, end_columns, is_counted, next_state, to_blame
from batchrunner.store.groups import COUNT_ONE
from batchrunner.store.sharing import follow
from batchrunner.store.spending import SPENT, spent

# The first committed outcome wins: what does not sit in its batch any more is settled, or free.
SITTING = """SELECT q.seq, q.attempts + 1 FROM json_each(:seqs) given CROSS JOIN requests q ON q.seq = given.value
    WHERE q.batch_id = :batch AND q.state = 'pending'"""
ATTEMPT = """INSERT INTO attempts (seq, number, run_id, lane, started_at, endpoint, batch_id, ended_at,
    outcome, error_class, http_status, api_request_id, message, possibly_paid, counted,
    input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, cache_write_1h_tokens, web_searches,
    service_tier, speed, geo, price, cost_usd, possible_usd)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
MOVE = """UPDATE requests SET state = ?, attempts = ?, error_class = ?, signature = ?, error_message = ?, not_before = ?,
    finished_at = ?, batch_id = NULL WHERE seq = ? AND state = 'pending' AND batch_id = ? AND attempts < ?"""
# What the API never worked on was no attempt.
FREE = "UPDATE requests SET batch_id = NULL, not_before = ? WHERE seq = ? AND state = 'pending' AND batch_id = ?"
ADD = {
    State.SUCCEEDED: "UPDATE job SET succeeded = succeeded + ?",
    State.FAILED: "UPDATE job SET failed = failed + ?",
}


@dataclass(frozen=True, slots=True)
class FromBatch:
    """Where an attempt was made."""

    batch: int  #: Id in the store.
    run_id: int  #: That settles it.
    submitted_at: str  #: UTC stamp.
    endpoint: str | None = None  #: Its name, if it has one.


@dataclass(frozen=True, slots=True, eq=False)
class SettledRows:
    """Attempts of batches that came to their ends, in one transaction."""

    settlements: Sequence[tuple[FromBatch, Settlement]]
    followers: dict[int, "array[int]"] = field(
        default_factory=dict
    )  #: `seq` of a row -> of those that shared its fate.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Write those that still sit in their batches."""
        settlements = list(_unsettled(cursor, self.settlements))
        cursor.executemany(ATTEMPT, [_attempt(where, s) for where, s in settlements])
        cursor.executemany(RESULT, [row for _, s in settlements if (row := _result(s)) is not None])
        cursor.executemany(SPENT, [spent(s, where.endpoint or "") for where, s in settlements])
        by_state: dict[State, list[tuple[FromBatch, Settlement]]] = defaultdict(list)
        for where, settlement in settlements:
            by_state[next_state(settlement)].append((where, settlement))
        for state, settled in by_state.items():
            cursor.executemany(MOVE, [_move(state, where, s) for where, s in settled])
            if state in ADD:
                cursor.execute(ADD[state], (cursor.rowcount,))
            if state is State.FAILED:
                cursor.executemany(COUNT_ONE, [_group(s) for _, s in settled])
            for _, settlement in settled:
                if settlement.attempt.answers_others and state is not State.PENDING:
                    self._lead(cursor, settlement, state)

    def _lead(self, cursor: sqlite3.Cursor, s: Settlement, state: State) -> None:
        blame = dict(zip(("error_class", "signature", "message"), to_blame(s.outcome), strict=True))
        fate = {"state": str(state), "at": s.ended_at, **blame}
        self.followers[s.attempt.seq] = follow(cursor, s.attempt.seq, s.attempt.number, fate)


@dataclass(frozen=True, slots=True, eq=False)
class Freed:
    """Rows of a batch that the API never worked on: due again at once."""

    batch: int
    seqs: Sequence[int]
    at: str  #: UTC stamp.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Take them out of the batch."""
        cursor.executemany(FREE, [(self.at, seq, self.batch) for seq in self.seqs])


def _unsettled(
    cursor: sqlite3.Cursor, settlements: Sequence[tuple[FromBatch, Settlement]]
) -> Iterator[tuple[FromBatch, Settlement]]:
    by_batch: dict[int, list[int]] = defaultdict(list)
    for where, settlement in settlements:
        by_batch[where.batch].append(settlement.attempt.seq)
    sitting = {
        (batch, *row)
        for batch, seqs in by_batch.items()
        for row in cursor.execute(SITTING, {"batch": batch, "seqs": json.dumps(seqs)}).fetchall()
    }
    for where, settlement in settlements:
        key = (where.batch, settlement.attempt.seq, settlement.attempt.number)
        if key in sitting:
            sitting.discard(key)  # a line of the results may stand there twice
            yield where, settlement


def _attempt(where: FromBatch, s: Settlement) -> tuple[Any, ...]:
    a = s.attempt
    head = (a.seq, a.number, where.run_id, a.lane, where.submitted_at, where.endpoint, where.batch, s.ended_at)
    columns = end_columns(s.outcome, counted=is_counted(s.decision))
    return (*head, *columns, s.bill.price, s.bill.cost_usd, s.bill.possible_usd)


def _answer(s: Settlement) -> Success | None:
    return s.outcome if isinstance(s.outcome, Success) else s.outcome.answer


def _result(s: Settlement) -> tuple[Any, ...] | None:
    answer, is_accepted = _answer(s), isinstance(s.outcome, Success)
    if answer is None:
        return None
    return (
        s.attempt.seq,
        s.attempt.number,
        is_accepted,
        answer.text,
        answer.stop_reason,
        answer.model,
        answer.message,
    )


def _move(state: State, where: FromBatch, s: Settlement) -> tuple[Any, ...]:
    finished_at = None if state is State.PENDING else s.ended_at
    seq, number = s.attempt.seq, s.attempt.number
    return (state, number, *to_blame(s.outcome), s.not_before, finished_at, seq, where.batch, number)


def _group(s: Settlement) -> tuple[Any, ...]:
    error_class, signed, _ = to_blame(s.outcome)
    return error_class, signed, s.ended_at, s.ended_at
