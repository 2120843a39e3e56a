"""The part of a run that sends: from the opened endpoint to the last settlement."""

import os
import socket
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from batchrunner import __version__
from batchrunner.assembly import Means, assemble, sends_before, till_for
from batchrunner.clock import stamp
from batchrunner.dispatcher import Dispatcher
from batchrunner.endpoint import Endpoint, Way, check_unchanged, opened
from batchrunner.engines.live import LiveEngine
from batchrunner.forecast import forecast_of, told_in_short
from batchrunner.holding import held_by, waits_told
from batchrunner.keeping import Keeper
from batchrunner.loading import allowed_files
from batchrunner.prices import load as load_prices
from batchrunner.progress import Reporter, Snapshot
from batchrunner.report import Job, Report, banner
from batchrunner.retuning import Listener, Sending
from batchrunner.stopping import Stopper
from batchrunner.store.changes import RunEnded, begin_run, last_endpoints, run_identity
from batchrunner.store.place import Place, concerns
from batchrunner.store.queue import Queue
from batchrunner.store.rescue import Rescue
from batchrunner.store.selection import Totals, totals
from batchrunner.store.spending import probably_spent_usd
from batchrunner.store.writer import Writer

#: No rule makes a request wait for longer, so a retry found due later than this was stamped by another wall clock.
_LATEST_DUE_S = 300.0


@dataclass(slots=True)
class Shift:
    """Sends what is pending, watches over it, and writes down how it ended."""

    _job: Job
    _means: Means
    _endpoints: Sequence[Endpoint]
    _reporter: Reporter
    _stopper: Stopper
    _report: Report
    _place: Place

    async def work(self, conn: sqlite3.Connection, queue: Queue, listener: Listener) -> None:
        """Send until everything of *queue* is final, something halts the run, or the user stops it."""
        before, files = queue.totals(), allowed_files(conn)
        limits = self._means.settings.limits
        async with opened(self._endpoints, limits.cap, exactly=limits.concurrency is not None) as way:
            check_unchanged(last_endpoints(conn), way, self._endpoints, self._job.store)
            sent_before = await to_thread.run_sync(sends_before, conn, self._means.settings, self._means.clock)
            await to_thread.run_sync(load_prices)
            till = await to_thread.run_sync(till_for, self._means, way, queue, probably_spent_usd(conn))
            run_id = self._begin(conn, way.record)
            self._means.audience.began(run_id)
            self._reporter.note(
                banner(self._job.store, self._report, self._means.settings, totals(conn), addresses(way))
            )
            await self._foretell(conn, way, before.pending - self._report.paired.waiting)
            if till is not None:
                self._reporter.note(till.words(way.connections))
            for concern in concerns(self._job.store, before.pending):
                self._reporter.note(concern)
            writer = self._writer(conn, run_id)
            async with writer.running():
                dispatcher = assemble(
                    self._means, way, queue, writer, run_id=run_id, sent_before=sent_before, till=till
                )
                keeper = self._keeper(dispatcher, writer, run_id, way)
                listener.sending(Sending(dispatcher, writer, run_id, limits))
                try:
                    await self._until_done(dispatcher, writer, LiveEngine(way.sender, files), keeper, before)
                except BaseException as error:
                    is_cancelled = isinstance(error, anyio.get_cancelled_exc_class())
                    self._report.ending = "interrupted" if is_cancelled else "failed"
                    self._report.reason = type(error).__name__
                    writer.hurry(self._means.settings.stopping.drain_sigterm_s)
                    raise
                finally:
                    dispatcher.give_back()
                    keeper.conclude()
                    self._end(dispatcher, writer, run_id, keeper, before)
            writer.check()  # waiters that were cancelled have not heard of it

    async def _foretell(self, conn: sqlite3.Connection, way: Way, pending: int) -> None:
        """Say what it will probably cost, and how long it will take."""
        first, today = way.reached[0], self._means.clock.utc_now().date()
        limits = self._means.settings.limits.within(first.limits)
        found = await to_thread.run_sync(partial(forecast_of, conn, pending, limits, own=first.prices, today=today))
        self._reporter.note(told_in_short(found, simulated=self._report.simulated))

    def _writer(self, conn: sqlite3.Connection, run_id: int) -> Writer:
        def given_up() -> None:
            if not self._stopper.stopped():
                self._stopper.ask("The store could not be written.")

        rescue = Rescue(self._job.store, run_identity(conn, run_id))
        return Writer(conn, complain=self._reporter.note, rescue=rescue, given_up=given_up)

    def _keeper(self, dispatcher: Dispatcher, writer: Writer, run_id: int, way: Way) -> Keeper:
        return Keeper(
            dispatcher,
            writer,
            run_id,
            clock=self._means.clock,
            note=self._reporter.note,
            check_place=self._place.check,
            renew=way.sender.renew,
            max_outage_s=self._means.settings.max_outage_s,
        )

    async def _until_done(
        self, dispatcher: Dispatcher, writer: Writer, engine: LiveEngine, keeper: Keeper, before: Totals
    ) -> None:
        with anyio.CancelScope() as working:
            self._stopper.watch_over(working, partial(_drain, dispatcher, writer))
            async with anyio.create_task_group() as group:
                group.start_soon(dispatcher.run)
                group.start_soon(self._show, partial(self._snapshot, dispatcher, before))
                group.start_soon(keeper.run)
                await engine.run(dispatcher.take, dispatcher.settle)
                group.cancel_scope.cancel()

    async def _show(self, shot: Callable[[], Snapshot]) -> None:
        self._reporter.start(shot())
        try:
            while True:
                await anyio.sleep(self._reporter.interval_s)
                self._reporter.tick(shot())
        finally:
            self._reporter.tick(shot())
            self._reporter.stop()

    def _snapshot(self, dispatcher: Dispatcher, before: Totals) -> Snapshot:
        now = self._means.clock.monotonic()
        counts, slots = dispatcher.counts, dispatcher.slots
        return Snapshot(
            requests=before.requests,
            succeeded=before.succeeded + counts.succeeded,
            failed=before.failed + counts.failed,
            in_flight=slots.taken,
            held_by=held_by(dispatcher.lanes, now),
            retrying=dispatcher.retrying,
            sent=counts.sent,
            retries=counts.retries,
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
        )

    def _begin(self, conn: sqlite3.Connection, record: dict[str, Any]) -> int:
        now = self._means.clock.utc_now()
        run = {"version": __version__, "host": socket.gethostname(), "pid": os.getpid(), "at": stamp(now)}
        settings = {**self._means.settings.as_record(), **record}
        return begin_run(conn, run, settings, stamp(now + timedelta(seconds=_LATEST_DUE_S)))

    def _end(self, dispatcher: Dispatcher, writer: Writer, run_id: int, keeper: Keeper, before: Totals) -> None:
        report = self._report
        counts = dispatcher.counts
        report.counts = report.counts.plus(counts)
        report.endpoints = dispatcher.endpoints_record()
        now = self._means.clock.monotonic()
        report.waits = waits_told(dispatcher.lanes, now, now - keeper.began_at)
        if report.reason is not None:
            pass
        elif dispatcher.endings.halts:
            report.ending, report.reason = "halted", dispatcher.endings.halts[0].reason
            report.steps = dispatcher.endings.halts[0].steps
        elif self._stopper.stopped():
            report.ending, report.reason = "interrupted", self._stopper.reason
        elif dispatcher.endings.given_up:
            report.ending, report.reason = "stopped", dispatcher.endings.given_up[0]
        elif dispatcher.endings.ran_out is not None and before.pending > counts.succeeded + counts.failed:
            report.ending, report.reason = "stopped", dispatcher.endings.ran_out
        writer.submit(RunEnded(run_id, stamp(self._means.clock.utc_now()), report.ending, report.reason))


def addresses(way: Way) -> str:
    """Return where the run sends, for people: an address, or names with addresses in their order."""
    return ", then ".join(way.record.get("endpoints") or [way.record["endpoint"]])


def _drain(dispatcher: Dispatcher, writer: Writer, within_s: float) -> int:
    dispatcher.endings.stop()
    dispatcher.recall()
    writer.hurry(within_s)
    return dispatcher.slots.taken
