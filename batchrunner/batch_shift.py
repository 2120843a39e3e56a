"""The part of a run that works by batches: from the opened endpoint to the last batch collected, or left to the API."""

import json
import sqlite3
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from batchrunner.assembly import tariff_of
from batchrunner.batch_desk import BatchDesk, Court
from batchrunner.batch_records import Post
from batchrunner.batch_till import BatchTill
from batchrunner.clock import stamp
from batchrunner.endpoint import Way, check_unchanged, opened
from batchrunner.engines.batch_book import Plan
from batchrunner.engines.batch_line import Line, RouteOutageError
from batchrunner.errors import BatchrunnerError, HaltError, StoreError, UsageError
from batchrunner.keeping import HEARTBEAT_S
from batchrunner.loading import allowed_files
from batchrunner.policy.batching import Polling, switch_at
from batchrunner.policy.judge import Judge
from batchrunner.prices import load as load_prices
from batchrunner.progress import Snapshot
from batchrunner.report import at_api_told, banner
from batchrunner.screen import duration
from batchrunner.shift import Shift, addresses
from batchrunner.store.batch_log import BatchLog
from batchrunner.store.batches import open_batches
from batchrunner.store.changes import Heartbeat, RunEnded, last_endpoints
from batchrunner.store.forgetting import forget
from batchrunner.store.queue import Queue
from batchrunner.store.selection import Totals, totals
from batchrunner.store.spending import probably_spent_usd
from batchrunner.store.writer import Writer

if TYPE_CHECKING:
    from batchrunner.api.batches import BatchesApi
    from batchrunner.engines.message_batches import MessageBatchesEngine

#: So many live calls a minute are what is counted on where the user names no rate.
_LIVE_PER_MINUTE = 1000.0
_TICK_S = 1.0
#: On this machine nobody waits for long.
_LOCAL = Polling(0.2, 2.0)


@dataclass(slots=True)
class BatchShift(Shift):
    """Submits what is pending, waits, collects. `is_out_of_time`: the rest is to go live."""

    cancels: bool = False  #: Submit nothing; cancel what is open, and collect what is done of it.
    is_out_of_time: bool = field(default=False, init=False)

    async def by_batches(self, conn: sqlite3.Connection, reading: sqlite3.Connection, queue: Queue) -> None:
        """Work until every batch is collected, something halts the run, or the user leaves.

        *conn* writes; *queue* reads over *reading*. Raises `UsageError` where the endpoint has no batches.
        """
        settings, before = self._means.settings, queue.totals()
        self._check_endpoints()
        now = stamp(self._means.clock.utc_now())
        if self._endpoints[0].simulator is not None and (gone := forget(conn, now, paid=False)):
            self._reporter.note(
                f"the simulator of the last run is gone, and {gone} of its batches: they are sent again"
            )
        async with opened(self._endpoints, settings.limits.cap, exactly=False) as way:
            check_unchanged(last_endpoints(conn), way, self._endpoints, self._job.store)
            polling = self._polling(way)
            line = Line(self._reporter.note, max_outage_s=settings.max_outage_s, first_s=min(1.0, polling.first_s))
            api = await self._api(way, line)
            await to_thread.run_sync(load_prices)
            run_id = self._begin(conn, {**way.record, "route": "batches"})
            self._means.audience.began(run_id)
            said = banner(self._job.store, self._report, settings, totals(conn), addresses(way), by_batches=True)
            self._reporter.note(said)
            writer = self._writer(conn, run_id)
            async with writer.running():
                desk = self._desk(conn, BatchLog(reading, queue), writer, way, self._post(way, run_id, polling))
                engine = self._engine(api, desk, line, polling, conn)
                try:
                    await self._until_collected(engine, desk, writer, run_id, before)
                except BaseException as error:
                    self._blame(error)
                    writer.hurry(settings.stopping.drain_sigterm_s)
                    raise
                finally:
                    self._end_batches(desk, writer, run_id)
            writer.check()

    def _check_endpoints(self) -> None:
        if len(self._endpoints) > 1:
            raise UsageError("Batches go to one endpoint: give a single --endpoint with --route batches.")
        if self._endpoints[0].simulator is not None and self._means.settings.routing.submit_only:
            raise UsageError(
                "The simulator of --simulate ends with this command, and its batches with it; `batchrunner simulate` serves "
                "one that goes on."
            )

    def _polling(self, way: Way) -> Polling:
        poll_s = self._means.settings.routing.poll_s
        if poll_s is not None:
            return Polling(poll_s, 4 * poll_s)
        address = str(way.record["endpoint"])
        is_local = address == "simulator" or "//127.0.0.1" in address or "//localhost" in address
        return _LOCAL if is_local else Polling()

    async def _api(self, way: Way, line: Line) -> "BatchesApi":
        """Return the calls, after one that shows that the endpoint has them: nothing is on record before."""
        from batchrunner.api.batches import BatchesApi
        from batchrunner.model import Failure

        api = BatchesApi(await way.sender.sdk_client(), way.sender.secrets)
        while isinstance(page := await api.page(size=1), Failure):
            await line.pause(page)
            if self._stopper.stopped():
                break
        return api

    def _desk(self, conn: sqlite3.Connection, log: BatchLog, writer: Writer, way: Way, post: Post) -> BatchDesk:
        settings = self._means.settings
        schema = None if settings.schema is None else json.dumps(settings.schema)
        judge = Judge(
            settings.rules,
            accept=settings.accept,
            official=way.reached[0].official,
            rng=self._means.rng,
            schema=schema,
            budgeted=False,
        )
        promised_usd = sum(batch.possible_usd or 0.0 for batch in open_batches(conn))
        till = BatchTill(
            tariff_of(way, writer),
            cap_usd=settings.caps.max_cost_usd,
            spent_usd=probably_spent_usd(conn),
            promised_usd=promised_usd,
        )
        return BatchDesk(log, writer, self._means.clock, post, Court(judge, till, self._means.audience, settings.halt))

    def _post(self, way: Way, run_id: int, polling: Polling) -> Post:
        routing = self._means.settings.routing
        return Post(
            run_id,
            str(way.record["endpoint"]),
            way.reached[0].name,
            submits=not self.cancels,
            retries=not (self.cancels or routing.submit_only or routing.then_live),
            gather_s=polling.cap_s,
        )

    def _engine(
        self, api: "BatchesApi", desk: BatchDesk, line: Line, polling: Polling, conn: sqlite3.Connection
    ) -> "MessageBatchesEngine":
        from batchrunner.engines.message_batches import MessageBatchesEngine

        routing = self._means.settings.routing
        plan = Plan(
            rows=routing.rows,
            queue=routing.queue,
            polling=polling,
            follows=not routing.submit_only,
        )
        engine = MessageBatchesEngine(api, desk, line, plan, files=allowed_files(conn), names=self._endpoints[0].models)
        if self.cancels:
            engine.cancel_all()
        return engine

    async def _until_collected(
        self, engine: "MessageBatchesEngine", desk: BatchDesk, writer: Writer, run_id: int, before: Totals
    ) -> None:
        with anyio.CancelScope() as working:

            def stop(within_s: float) -> int:
                desk.stop()
                writer.hurry(within_s)
                return 0

            self._stopper.watch_over(working, stop, lambda: self._leaving(desk))
            async with anyio.create_task_group() as group:
                group.start_soon(self._show, partial(self._shot, desk, before))
                group.start_soon(self._keep, desk, writer, run_id)
                group.start_soon(self._mind_time, engine, desk, before, working)
                await engine.run(desk.take, desk.settle)
                group.cancel_scope.cancel()

    def _leaving(self, desk: BatchDesk) -> str:
        batches = desk.open()
        if not batches:
            return "stopping: no batch is with the API"
        return f"stopping: {at_api_told(len(batches), desk.sitting, str(self._job.store))}"

    def _shot(self, desk: BatchDesk, before: Totals) -> Snapshot:
        counts, batches = desk.counts, desk.open()
        return Snapshot(
            requests=before.requests,
            succeeded=before.succeeded + counts.succeeded,
            failed=before.failed + counts.failed,
            in_flight=desk.sitting,
            retrying=counts.retries,
            sent=counts.sent,
            retries=counts.retries,
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
            batches=len(batches),
        )

    async def _keep(self, desk: BatchDesk, writer: Writer, run_id: int) -> None:
        """Show signs of life, and look after the store."""
        beat_at = anyio.current_time()
        while True:
            await anyio.sleep(_TICK_S)
            try:
                self._place.check()
            except StoreError as error:
                self._reporter.note(f"{error} Nothing more is submitted.")
                desk.stop()
                return
            if anyio.current_time() - beat_at >= HEARTBEAT_S:
                beat_at = anyio.current_time()
                writer.submit(Heartbeat(run_id, stamp(self._means.clock.utc_now())))

    async def _mind_time(
        self, engine: "MessageBatchesEngine", desk: BatchDesk, before: Totals, working: anyio.CancelScope
    ) -> None:
        """Give way to live calls when the time for batches is over, and leave when the time for all is."""
        settings, rate = self._means.settings, self._means.settings.limits.rate
        deadline_s, longest_s = settings.routing.deadline_s, settings.caps.max_duration_s
        per_minute = rate.count / rate.period_s * 60 if rate else _LIVE_PER_MINUTE
        while deadline_s is not None or longest_s is not None:
            await anyio.sleep(_TICK_S / 4)
            passed_s = self._means.clock.monotonic() - self._means.began
            if longest_s is not None and passed_s >= longest_s:
                desk.given_up.append(f"{duration(longest_s)} are over (--max-duration); batches go on at the API.")
                working.cancel()
                return
            left = before.pending - desk.counts.succeeded - desk.counts.failed
            if deadline_s is not None and passed_s >= switch_at(deadline_s, left, per_minute):
                self._reporter.note(
                    f"{left:,} requests are left for live calls, to keep --deadline {duration(deadline_s)}"
                )
                self.is_out_of_time = True
                desk.stop()
                engine.cancel_all()
                deadline_s = None

    def _blame(self, error: BaseException) -> None:
        report = self._report
        causes = [error]
        while isinstance(causes[-1], BaseExceptionGroup):
            causes.append(causes[-1].exceptions[0])
        cause = causes[-1]
        if isinstance(error, anyio.get_cancelled_exc_class()):
            report.ending, report.reason = "interrupted", type(error).__name__
        elif isinstance(cause, BatchrunnerError):
            endings = {HaltError: "halted", RouteOutageError: "stopped"}
            report.ending, report.reason = endings.get(type(cause), "failed"), str(cause)
        else:
            report.ending, report.reason = "failed", type(cause).__name__

    def _end_batches(self, desk: BatchDesk, writer: Writer, run_id: int) -> None:
        report = self._report
        report.counts = report.counts.plus(desk.counts)
        report.at_api = {"batches": len(desk.open()), "requests": desk.sitting}
        report.unfit = dict(desk.unfit)
        if report.reason is not None:
            pass
        elif desk.halts:
            report.ending, report.reason = "halted", desk.halts[0].reason
            report.steps = desk.halts[0].steps
        elif self._stopper.stopped():
            report.ending, report.reason = "interrupted", self._stopper.reason
        elif desk.given_up:
            report.ending, report.reason = "stopped", desk.given_up[0]
        elif self._means.settings.routing.submit_only:
            report.ending = "submitted"
        writer.submit(RunEnded(run_id, stamp(self._means.clock.utc_now()), report.ending, report.reason))
