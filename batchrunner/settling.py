"""From outcomes to settlements: learn, decide, write down, tell."""

from dataclasses import replace

from batchrunner.audience import Audience
from batchrunner.bounds import Bounds
from batchrunner.clock import Clock, stamp
from batchrunner.counts import Counts
from batchrunner.endings import Endings
from batchrunner.errors import StoreError
from batchrunner.lane import Lane, Ticket, utc_stamp
from batchrunner.model import ErrorClass, Fail, Failure, Halt, Outcome, Retry, Settlement, Success
from batchrunner.policy.judge import Judge
from batchrunner.prices import Tariff
from batchrunner.store.changes import Settled, Started
from batchrunner.store.writer import Writer


class Settler:
    """Settles attempts: what is learnt from them, what becomes of their requests, what is written down."""

    def __init__(
        self,
        writer: Writer,
        judge: Judge,
        tariff: Tariff,
        *,
        bounds: Bounds,
        endings: Endings,
        counts: Counts,
        clock: Clock,
        audience: Audience,
    ) -> None:
        self._writer = writer
        self._judge = judge
        self._tariff = tariff
        self._bounds = bounds
        self._endings = endings
        self._counts = counts
        self._clock = clock
        self._audience = audience

    async def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """Decide, hand to the writer before anything is waited for, return when it is durable and told."""
        settlement, endpoint = self._settlement(ticket, outcome), ticket.berth.standing.name
        change = Settled(settlement, endpoint)
        group = self._writer.submit(change)
        try:
            await group.committed(change)
        except StoreError:
            if group.lost is not None:
                raise
            change = await self._settle_unstorable(settlement, endpoint)
        if not group.rescued:  # else the store knows nothing of it, so nobody is told
            self._conclude(ticket.lane, change)

    async def refuse(self, lane: Lane, why: str, run_id: int) -> None:
        """Settle the lane's next attempt as one that can never be sent; its start is on record all the same."""
        attempt = lane.due.popleft()
        self._writer.submit(Started(attempt, run_id, stamp(self._clock.utc_now())))
        failure = Failure(ErrorClass.TOO_LARGE, why)
        outcome, decision = self._judge.judge(attempt, failure, self._clock.monotonic())
        if isinstance(decision, Halt):
            self._endings.halt(lane, decision)
        at = stamp(self._clock.utc_now())
        settlement = Settlement(attempt, outcome, decision, at, bill=self._tariff.bill(attempt, outcome, at))
        change = Settled(settlement)
        group = self._writer.submit(change)
        await group.committed(change)
        if not group.rescued:
            self._conclude(lane, change)

    def _settlement(self, ticket: Ticket, outcome: Outcome) -> Settlement:
        lane, attempt, now = ticket.lane, ticket.attempt, self._clock.monotonic()
        at = stamp(self._clock.utc_now())
        bill = self._tariff.bill(attempt, outcome, at)
        self._bounds.settled(ticket, outcome, bill, now)
        lesson = ticket.learn(outcome, is_suspect=self._judge.is_suspect(attempt))
        if lesson.excused and ticket.berth.is_down and lane.has_another(ticket.berth):
            lesson = lesson._replace(retry_at=now)  # another endpoint takes it at once
            lane.failed_in_vain(attempt)
        outcome, decision = self._judge.judge(attempt, outcome, now, lesson, alone=lane.is_alone)
        ticket.berth.settled(lane.name, is_answer=isinstance(outcome, Success), now=now)
        if isinstance(decision, Halt):
            decision = self._endings.halted(ticket, outcome, decision, now)
        lane.reconsider()
        not_before = utc_stamp(self._clock, decision.at) if isinstance(decision, Retry) else None
        return Settlement(attempt, outcome, decision, at, not_before, bill)

    async def _settle_unstorable(self, settlement: Settlement, endpoint: str | None) -> Settled:
        """Settle an answer that SQLite refuses as a failure that says so; the attempt stays on record as paid."""
        failure = Failure(ErrorClass.BAD_RESPONSE, "The answer could not be written to the store.", possibly_paid=True)
        change = Settled(replace(settlement, outcome=failure, decision=Fail(), not_before=None), endpoint)
        await self._writer.submit(change).committed(change)
        return change

    def _conclude(self, lane: Lane, change: Settled) -> None:
        settlement, decision = change.settlement, change.settlement.decision
        self._counts.add(settlement, len(change.followers))
        self._endings.mind_failures(self._counts)
        lane.settled(settlement.attempt, decision if isinstance(decision, Retry) else None)
        if not isinstance(decision, Retry | Halt):
            for seq in (settlement.attempt.seq, *change.followers):
                self._audience.final(seq)
