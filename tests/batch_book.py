"""A book of batches in memory: for the engine's own tests, where no store is at stake."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from batchrunner.batch import Batch, BatchState, Remote, RowKey
from batchrunner.engines import Admitted, Engine, Settle, Take
from batchrunner.model import Outcome

BEGUN = "2026-11-22T00:00:00.000Z"


@dataclass
class MemoryBook:
    """Keeps what the store would."""

    batches: dict[int, Batch] = field(default_factory=dict)
    rows: dict[RowKey, tuple[int, Admitted]] = field(default_factory=dict)  # not settled yet
    taken: dict[RowKey, Admitted] = field(default_factory=dict)
    freed: list[RowKey] = field(default_factory=list)
    intended_at: str = BEGUN

    def open(self) -> Sequence[Batch]:
        return [batch for batch in self.batches.values() if batch.state.is_open]

    async def intend(self, nonce: str, keys: Sequence[RowKey], size: int) -> Batch:
        batch = Batch(len(self.batches) + 1, nonce, BatchState.SUBMITTING, len(keys), self.intended_at)
        self.batches[batch.id] = batch
        self.rows |= {key: (batch.id, self.taken[key]) for key in keys}
        return batch

    async def known(self) -> Collection[str]:
        return {batch.remote_id for batch in self.batches.values() if batch.remote_id is not None}

    async def told(self, batch: Batch, remote: Remote) -> Batch:
        batch = replace(self.batches[batch.id], remote_id=remote.id, state=remote.state, created_at=remote.created_at)
        self.batches[batch.id] = batch
        return batch

    async def asked_to_cancel(self, batch: Batch) -> None:
        self.batches[batch.id] = replace(self.batches[batch.id], cancel_asked_at=BEGUN)

    async def recall(self, batch: Batch, keys: Sequence[RowKey]) -> Sequence[Admitted]:
        return [self.rows[key][1] for key in keys if key in self.rows and self.rows[key][0] == batch.id]

    async def free(self, batch: Batch, keys: Sequence[RowKey]) -> None:
        self.freed += keys
        for key in keys:
            self.rows.pop(key, None)

    async def left(self, batch: Batch) -> Sequence[RowKey]:
        return [key for key, (number, _) in self.rows.items() if number == batch.id]

    async def close(self, batch: Batch, state: BatchState) -> None:
        self.batches[batch.id] = replace(self.batches[batch.id], state=state)
        for key in await self.left(batch):
            await self.free(batch, [key])


@dataclass
class Booked:
    """An engine whose book sees what it takes and settles, as the store does."""

    engine: Engine
    book: MemoryBook

    async def run(self, take: Take, settle: Settle) -> None:
        async def noted(count: int) -> Sequence[Admitted]:
            rows = await take(count)
            self.book.taken |= {RowKey(row.attempt.seq, row.attempt.number): row for row in rows}
            return rows

        async def settled(admitted: Admitted, outcome: Outcome) -> None:
            self.book.rows.pop(RowKey(admitted.attempt.seq, admitted.attempt.number), None)
            await settle(admitted, outcome)

        await self.engine.run(noted, settled)
