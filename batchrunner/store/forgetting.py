"""Letting go of batches that can never be collected: their requests are free, and what they may have cost stays on record."""

import sqlite3

from batchrunner.batch import Batch, BatchState
from batchrunner.model import Attempt, Bill, ErrorClass, Failure, Retry, Settlement
from batchrunner.store.batch_settling import FromBatch, SettledRows
from batchrunner.store.batches import Closed, open_batches
from batchrunner.store.transactions import transaction

SITS = """SELECT q.seq, q.attempts + 1, q.custom_id, q.model_class, b.run_id
    FROM batches b CROSS JOIN requests q ON q.batch_id = b.id WHERE b.id = :id AND q.batch_id IS NOT NULL"""
_FORGOTTEN = Failure(ErrorClass.EXPIRED, "Its batch was given up (--forget).", possibly_paid=True)


def forget(conn: sqlite3.Connection, at: str, *, paid: bool = True) -> int:
    """Let every open batch go: its requests are free again, and what it brings is lost. Returns how many there were.

    *paid*: the API works on them all the same, so each row is on record as an attempt that may have been paid for. The
    caller owns the store and says so to the user.
    """
    found = open_batches(conn)
    with transaction(conn) as cursor:
        for batch in found:
            if paid:
                SettledRows([_given_up(batch, row, at) for row in cursor.execute(SITS, {"id": batch.id})]).write(cursor)
            is_doubtful = batch.state is BatchState.SUBMITTING
            Closed(batch.id, BatchState.WITHDRAWN if is_doubtful else BatchState.LOST, at).write(cursor)
    return len(found)


def _given_up(batch: Batch, row: tuple[int, int, str, str, int], at: str) -> tuple[FromBatch, Settlement]:
    seq, number, custom_id, lane, run_id = row
    attempt = Attempt(seq, number, custom_id, lane, "", 0)
    bill = Bill(possible_usd=batch.row_usd or None)
    where = FromBatch(batch.id, run_id, batch.created_at or batch.intended_at)
    return where, Settlement(attempt, _FORGOTTEN, Retry(0.0, counted=False), at, at, bill)
