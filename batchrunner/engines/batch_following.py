"""From a batch that was submitted to the last of its rows settled: look, wait, download, settle."""

from collections.abc import Sequence

import anyio
from anyio import to_thread

from batchrunner.api.batch_results import RowResult
from batchrunner.api.batches import BatchesApi, Cut
from batchrunner.batch import Batch, BatchState, Remote
from batchrunner.engines import Admitted, Settle, together
from batchrunner.engines.batch_book import Book
from batchrunner.engines.batch_line import Line
from batchrunner.errors import HaltError
from batchrunner.failpoints import Point, reach
from batchrunner.model import ErrorClass, Failure, Outcome
from batchrunner.policy.batching import Polling

#: So many complete downloads that lack the same rows are believed.
_BELIEVED = 3
#: However many batches end at once, only so many are downloaded: what is in memory does not grow with them.
_DOWNLOADS = 2
#: One group is read while another one is written.
_GROUPS = 2
_MISSING = Failure(ErrorClass.BAD_RESPONSE, "The results of the batch do not mention this request.", possibly_paid=True)
_GONE = Failure(ErrorClass.EXPIRED, "The results of the batch are gone: they are kept for 29 days.", possibly_paid=True)


class Follower:
    """Follows batches to their ends."""

    def __init__(self, api: BatchesApi, book: Book, line: Line, polling: Polling) -> None:
        self._api = api
        self._book = book
        self._line = line
        self._polling = polling
        self.cancelling = anyio.Event()  #: Set: every batch is to be cancelled.
        self._downloading = anyio.CapacityLimiter(_DOWNLOADS)
        self.looks = 0  #: How often the state of a batch was asked for.

    async def follow(self, batch: Batch, remote: Remote, settle: Settle, *, look_first: bool = False) -> None:
        """Wait until *remote* has ended, settle its rows, close it. *look_first*: what is known of it may be old."""
        if look_first:
            remote = await self._look(batch, remote)
        remote = await self._until_ended(batch, remote)
        if remote.archived_at is not None:
            await self._settle_left(batch, settle, _GONE)
            await self._book.close(batch, BatchState.LOST)
            return
        await self._collect(batch, remote, settle)
        await self._settle_left(batch, settle, _MISSING)
        await self._book.close(batch, BatchState.COLLECTED)

    async def _until_ended(self, batch: Batch, remote: Remote) -> Remote:
        looks = 0
        while remote.state is not BatchState.ENDED:
            if self.cancelling.is_set() and remote.state is BatchState.IN_PROGRESS:
                remote = await self._cancel(batch, remote)
                looks = 0
            with anyio.move_on_after(self._polling.wait_s(looks)):
                await (anyio.Event() if self.cancelling.is_set() else self.cancelling).wait()
                continue
            looks += 1
            remote = await self._look(batch, remote)
        return remote

    async def _look(self, batch: Batch, remote: Remote) -> Remote:
        while True:
            told = await self._api.retrieve(remote.id)
            self.looks += 1
            if isinstance(told, Remote):
                self._line.answers()
                await self._book.told(batch, told)
                return told
            if told.http_status == 404:
                raise _unknown(remote)
            await self._line.pause(told)

    async def _cancel(self, batch: Batch, remote: Remote) -> Remote:
        await self._book.asked_to_cancel(batch)
        told = await self._api.cancel(remote.id)
        if isinstance(told, Failure):
            # It may just have ended; whatever it is, the next look tells.
            if self._line.is_passing(told):
                await self._line.pause(told)
            return await self._look(batch, remote)
        self._line.answers()
        await self._book.told(batch, told)
        return told

    async def _collect(self, batch: Batch, remote: Remote, settle: Settle) -> None:
        """Download until every row was there, or the API says again and again that there are no more."""
        complete: list[int] = []
        while True:
            try:
                async with self._downloading:
                    count = await self._download(batch, remote, settle)
            except Cut as cut:
                if cut.failure.http_status == 404:
                    raise _unknown(remote) from cut
                await self._line.pause(cut.failure)
                continue
            if count >= batch.requests or complete[1 - _BELIEVED :] == [count] * (_BELIEVED - 1):
                self._line.answers()
                return
            complete.append(count)
            short = f"{count:,} of {batch.requests:,} results came"
            await self._line.pause(Failure(ErrorClass.NETWORK, short))

    async def _download(self, batch: Batch, remote: Remote, settle: Settle) -> int:
        """Settle what the results say; return how many rows they mention."""
        count, cut = 0, None
        room = anyio.Semaphore(_GROUPS)
        async with anyio.create_task_group() as group:
            try:
                async for lines in self._api.results(remote.id):
                    results = await to_thread.run_sync(self._api.read, lines)
                    ours = [result for result in results if result.nonce == batch.nonce]
                    count += len(ours)
                    await room.acquire()
                    group.start_soon(self._settle_group, batch, ours, settle, room)
            except Cut as error:
                cut = error  # what has come is settled first
        if cut is not None:
            raise cut
        return count

    async def _settle_group(
        self, batch: Batch, results: Sequence[RowResult], settle: Settle, room: anyio.Semaphore
    ) -> None:
        try:
            await self._settle(batch, results, settle)
        finally:
            room.release()

    async def _settle(self, batch: Batch, results: Sequence[RowResult], settle: Settle) -> None:
        reach(Point.BATCH_COLLECTING)
        outcomes = {result.key: result.outcome for result in results}
        if untouched := [key for key, outcome in outcomes.items() if outcome is None]:
            await self._book.free(batch, untouched)
        worked_on = {key: outcome for key, outcome in outcomes.items() if outcome is not None}
        by_place = {(key.seq, key.number): outcome for key, outcome in worked_on.items()}
        admitted = await self._book.recall(batch, [*worked_on])
        await _settle_all(settle, [(one, by_place[one.attempt.seq, one.attempt.number]) for one in admitted])

    async def _settle_left(self, batch: Batch, settle: Settle, outcome: Failure) -> None:
        while keys := await self._book.left(batch):
            await _settle_all(settle, [(one, outcome) for one in await self._book.recall(batch, keys)])


async def _settle_all(settle: Settle, pairs: Sequence[tuple[Admitted, Outcome]]) -> None:
    """Settle a group at once, so that it is committed as one."""
    if (settle_all := together(settle)) is not None:
        await settle_all(pairs)
        return
    async with anyio.create_task_group() as group:
        for admitted, outcome in pairs:
            group.start_soon(_settle_one, settle, admitted, outcome)


async def _settle_one(settle: Settle, admitted: Admitted, outcome: Outcome) -> None:
    await settle(admitted, outcome)


def _unknown(remote: Remote) -> HaltError:
    return HaltError(
        f"The endpoint does not know the batch {remote.id} with this key: it belongs to another workspace, or was deleted. "
        "Use the key it was submitted with; if it is gone for good, `batchrunner batches JOBFILE --forget` gives its "
        "requests back."
    )
