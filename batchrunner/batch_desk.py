"""The desk of the second route: hands out what is due for batches, and settles their rows.

It stands where the dispatcher stands on the live route. There are no lanes, slots or rates: the API has a queue of its
own. What is on record before an attempt goes out is its batch, with all its rows, in one commit.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio

from batchrunner.audience import Audience
from batchrunner.batch import Batch, BatchState, RowKey
from batchrunner.batch_records import BatchRecords, BatchTicket, Place, Post
from batchrunner.batch_till import BatchTill
from batchrunner.clock import Clock
from batchrunner.engines import Admitted
from batchrunner.errors import StoreError
from batchrunner.lane import monotonic_of, utc_stamp
from batchrunner.model import Attempt, ErrorClass, Fail, Failure, Halt, Outcome, Retry, Settlement
from batchrunner.policy.batching import why_not
from batchrunner.policy.judge import Judge
from batchrunner.policy.tolerance import HaltAt
from batchrunner.store.batch_log import BatchLog
from batchrunner.store.batch_settling import FromBatch, SettledRows
from batchrunner.store.changes import Settled, Started
from batchrunner.store.queue import Claim
from batchrunner.store.writer import Writer

#: Read from the queue at a time.
_CLAIMED = 1000


@dataclass(frozen=True, slots=True)
class Court:
    """Who decides what becomes of a row, and who hears of it."""

    judge: Judge
    till: BatchTill
    audience: Audience
    halt_at: HaltAt | None = None


class BatchDesk(BatchRecords):
    """`take` and `settle` of the batches engine, beside its book."""

    def __init__(self, log: BatchLog, writer: Writer, clock: Clock, post: Post, court: Court) -> None:
        super().__init__(log, writer, clock, post)
        self.unfit: Counter[str] = Counter()  #: Requests that cannot go by batches, by why.
        self.halts: list[Halt] = []
        self.given_up: list[str] = []  #: Limits of the user's own that were reached, in words.
        self._court = court
        self._stopped = False

    async def take(self, count: int) -> Sequence[Admitted]:
        """Return 1 to *count* requests that may go into a batch; nothing when there will be no more."""
        while self._post.submits and not self._stopped:
            await self._court.audience.room()
            for name in self._places:
                if found := await self._claim(name, min(count, _CLAIMED)):
                    return found
            if not any(place.has_fresh for place in self._places.values()):
                try_at = min((place.try_at for place in self._places.values()), default=math.inf)
                if not self._post.retries or (try_at == math.inf and not self._open and not self._in_hand):
                    break
                await self._wait(try_at)
        return ()

    async def settle(self, admitted: Admitted, outcome: Outcome) -> None:
        """Decide, hand to the writer before anything is waited for, return when it is durable."""
        await self.settle_all([(admitted, outcome)])

    async def settle_all(self, pairs: Sequence[tuple[Admitted, Outcome]]) -> None:
        """Settle many at once: in one commit."""
        rows: list[tuple[BatchTicket, Settlement]] = []
        for admitted, outcome in pairs:
            if not isinstance(admitted, BatchTicket):
                raise TypeError("settle takes what take or recall gave")
            rows.append((admitted, self._settlement(admitted.attempt, outcome)))
        change = SettledRows([(self._where(row.batch), s) for row, s in rows if row.batch is not None])
        group = self._writer.submit(change)
        for row, settlement in rows:
            if row.batch is None:
                await self._settle_unsent(settlement)
        try:
            await group.committed(change)
        except StoreError:
            if group.lost is not None:
                raise
            rows = [
                (row, s if row.batch is None else await self._settle_alone(s, row.batch, change)) for row, s in rows
            ]
        if group.rescued:  # the store was given up, and knows nothing of it; the API still does
            return
        for row, settlement in rows:
            self._sitting -= row.batch is not None
            followers = change.followers.get(settlement.attempt.seq, ())
            self._conclude(settlement, 0.0 if row.batch is None else row.batch.row_usd, followers)
        self._news.set()

    def _settlement(self, attempt: Attempt, outcome: Outcome) -> Settlement:
        outcome, decision = self._court.judge.judge(attempt, outcome, self._clock.monotonic())
        if isinstance(decision, Halt):
            self.halts.append(decision)
            self.stop()
        not_before = utc_stamp(self._clock, decision.at) if isinstance(decision, Retry) else None
        at = self._stamp()
        return Settlement(
            attempt, outcome, decision, at, not_before, self._court.till.tariff.bill(attempt, outcome, at)
        )

    def stop(self) -> None:
        """Let nothing new go out."""
        self._stopped = True
        self._news.set()

    async def _claim(self, name: str, count: int) -> list[BatchTicket]:
        place = self._places[name]
        is_time = self._post.retries and place.try_at <= self._clock.monotonic()
        if not place.has_fresh and not is_time:
            return []
        now = self._stamp() if is_time else ""  # no stamp is that early
        claim = Claim(name, place.after, now, frozenset(self._in_hand), place.has_fresh, count, place.span())
        claimed = await self._read(self._log.claim, claim)
        place.took(claimed)
        due = claimed.next_due
        place.try_at = math.inf if due is None else monotonic_of(self._clock, due) + self._post.gather_s
        return self._fit(claimed.attempts)

    def _fit(self, attempts: Sequence[Attempt]) -> list[BatchTicket]:
        """Return those of *attempts* that may go by batches, as far as the money reaches."""
        found: list[BatchTicket] = []
        for attempt in attempts:
            if (why := why_not(attempt.params, attempt.max_tokens, self._post.largest_row)) is not None:
                self.unfit[why] += 1
                if attempt.number > 1:  # a fresh one is behind the cursor
                    self._in_hand[attempt.seq] = None
                continue
            cost = self._court.till.most_usd(attempt, self._stamp())
            if not self._court.till.admits(cost):
                self.given_up.append(self._court.till.told)
                self.stop()
                break
            self._in_hand[attempt.seq] = cost
            found.append(BatchTicket(attempt))
        return found

    async def _wait(self, until: float) -> None:
        self._news = anyio.Event()
        seconds = max(0.0, until - self._clock.monotonic())
        with anyio.move_on_after(seconds if seconds < math.inf else None):
            await self._news.wait()

    async def _settle_alone(self, settlement: Settlement, batch: Batch, of: SettledRows) -> Settlement:
        """A row of the group cannot be written: let each stand for itself."""
        where = self._where(batch)
        try:
            await self._commit(SettledRows([(where, settlement)], of.followers))
        except StoreError:
            failure = Failure(
                ErrorClass.BAD_RESPONSE, "The answer could not be written to the store.", possibly_paid=True
            )
            settlement = replace(settlement, outcome=failure, decision=Fail(), not_before=None)
            await self._commit(SettledRows([(where, settlement)], of.followers))
        return settlement

    async def _settle_unsent(self, settlement: Settlement) -> None:
        attempt = settlement.attempt
        self._writer.submit(Started(attempt, self._post.run_id, settlement.ended_at, self._post.endpoint_name))
        await self._commit(Settled(settlement))
        self._in_hand.pop(attempt.seq, None)

    def _conclude(self, settlement: Settlement, promised_usd: float, followers: Sequence[int]) -> None:
        self.counts.add(settlement, len(followers))
        self._court.till.paid(settlement.bill, promised_usd)
        if self._court.halt_at is not None and not self.given_up:
            failed, finished = self.counts.failed, self.counts.failed + self.counts.succeeded
            if (reason := self._court.halt_at.reached(failed, finished)) is not None:
                self.given_up.append(reason)
                self.stop()
        decision = settlement.decision
        if isinstance(decision, Retry):
            place = self._places.setdefault(settlement.attempt.lane, Place(fresh=False, marked=False, try_at=math.inf))
            place.try_at = min(place.try_at, decision.at + self._post.gather_s)
        elif not isinstance(decision, Halt):
            for seq in (settlement.attempt.seq, *followers):
                self._court.audience.final(seq)

    def _where(self, batch: Batch) -> FromBatch:
        return FromBatch(batch.id, self._post.run_id, batch.created_at or batch.intended_at, self._post.endpoint_name)

    async def free(self, batch: Batch, keys: Sequence[RowKey]) -> None:
        """Commit that these rows were never worked on: they are due again at once."""
        await super().free(batch, keys)
        self._court.till.freed(len(keys) * batch.row_usd)

    async def close(self, batch: Batch, state: BatchState) -> None:
        """Commit that *batch* is done with."""
        await super().close(batch, state)
        if state is BatchState.WITHDRAWN:
            self._court.till.freed(batch.possible_usd or 0.0)
