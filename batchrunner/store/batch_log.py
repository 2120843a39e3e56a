"""What a run on the second route reads of its store, over one connection. One caller at a time."""

import sqlite3
from collections.abc import Collection, Sequence

from batchrunner.batch import Batch, RowKey
from batchrunner.model import Attempt
from batchrunner.store.batches import batch_of, known_ids, left_in, open_batches, sitting
from batchrunner.store.queue import Claim, Claimed, Queue

_LEFT = 500


class BatchLog:
    """Reads batches and the requests in and outside of them."""

    def __init__(self, conn: sqlite3.Connection, queue: Queue) -> None:
        """*queue* reads over *conn* too."""
        self._conn = conn
        self._queue = queue

    def model_classes(self) -> list[str]:
        """Return the model classes that have something pending."""
        return self._queue.model_classes()

    def claim(self, claim: Claim) -> Claimed:
        """Return what is due outside of batches."""
        return self._queue.claim(claim)

    def open(self) -> list[Batch]:
        """Return the batches that requests sit in, the oldest first."""
        return open_batches(self._conn)

    def sitting(self) -> int:
        """Return how many requests sit in batches."""
        return sitting(self._conn)

    def by_nonce(self, nonce: str) -> Batch:
        """Return the batch with *nonce*."""
        return batch_of(self._conn, nonce)

    def known(self) -> set[str]:
        """Return the API's ids of all batches on record."""
        return known_ids(self._conn)

    def recall(self, batch: Batch, keys: Sequence[RowKey]) -> Sequence[Attempt]:
        """Return the attempts among *keys* that sit in *batch*."""
        numbers: Collection[RowKey] = frozenset(keys)
        found = self._queue.recall(batch.id, [key.seq for key in keys])
        return [attempt for attempt in found if RowKey(attempt.seq, attempt.number) in numbers]

    def left(self, batch: Batch) -> list[RowKey]:
        """Return some of the rows that still sit in *batch*."""
        return left_in(self._conn, batch.id, _LEFT)
