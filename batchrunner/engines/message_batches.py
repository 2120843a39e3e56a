"""The second route: attempts are rows of batches, which the Message Batches API works on in its own time."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from batchrunner.api.batches import BatchesApi
from batchrunner.api.routes import renamed
from batchrunner.attachments import AttachmentError, names_files, with_files
from batchrunner.batch import Batch, BatchState, Remote, RowKey
from batchrunner.engines import Admitted, Settle, Take
from batchrunner.engines.batch_body import Filling
from batchrunner.engines.batch_book import Book, Plan
from batchrunner.engines.batch_following import Follower
from batchrunner.engines.batch_line import Line
from batchrunner.engines.batch_search import find
from batchrunner.errors import UsageError
from batchrunner.failpoints import Point, reach
from batchrunner.model import ErrorClass, Failure

#: These say for certain that nothing was submitted, and that it may be in a while.
_LATER = frozenset({ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP})


class MessageBatchesEngine:
    """Fills batches, submits them, waits for their ends and settles their rows."""

    def __init__(
        self,
        api: BatchesApi,
        book: Book,
        line: Line,
        plan: Plan | None = None,
        *,
        files: Path | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Submit to *api* and keep track in *book*; *line* judges failing calls.

        *files*: requests may name files below that directory; *names*: the endpoint's own names of models.
        """
        self._api = api
        self._book = book
        self._line = line
        self._plan = plan or Plan()
        self._files = files
        self._names = names or {}
        self._follower = Follower(api, book, line, self._plan.polling)
        self._fillings: list[Filling] = []  # bodies that are not sent for certain
        self._rows_out = 0
        self._came_back = anyio.Event()

    def cancel_all(self) -> None:
        """Ask the API to cancel every batch that is with it; what is done by then is collected as ever."""
        self._follower.cancelling.set()

    @property
    def looks(self) -> int:
        """How often the API was asked for the state of a batch."""
        return self._follower.looks

    async def run(self, take: Take, settle: Settle) -> None:
        """Work until `take` has no more and every attempt taken is settled, or given back by a cancelled batch."""
        try:
            async with anyio.create_task_group() as group:
                for batch in self._book.open():
                    self._rows_out += batch.requests
                    if self._plan.follows:
                        group.start_soon(self._carry_on, batch, settle)
                await self._fill(take, settle, group)
        finally:
            for filling in self._fillings:
                filling.close()

    async def _fill(self, take: Take, settle: Settle, group: TaskGroup) -> None:
        filling: Filling | None = None
        while (rows := await self._rows(take, filling)) is None or rows:
            if rows is None and filling is not None:
                await self._submit(filling, settle, group)
                filling = None
            for admitted in rows or ():
                filling = await self._put(filling, admitted, settle, group)
        if filling is not None:
            await self._submit(filling, settle, group)

    async def _rows(self, take: Take, filling: Filling | None) -> Sequence[Admitted] | None:
        """Return further rows; None if there is something to send and nothing came for a while."""
        if filling is None:
            return await take(self._plan.rows)
        if filling.room <= 0:
            return None
        with anyio.move_on_after(self._plan.linger_s):
            return await take(filling.room)
        return None

    async def _put(
        self, filling: Filling | None, admitted: Admitted, settle: Settle, group: TaskGroup
    ) -> Filling | None:
        """Put one row into the batch that is being filled, or into the next one."""
        params = await self._params(admitted)
        if isinstance(params, Failure):
            await settle(admitted, params)
            return filling
        key = RowKey(admitted.attempt.seq, admitted.attempt.number)
        filling = filling or self._empty()
        row = filling.row(key, params)
        if not filling.fits(row):
            await self._submit(filling, settle, group)
            filling = self._empty()
            row = filling.row(key, params)
        filling.add(key, row, admitted.mark_sent)
        return filling

    def _empty(self) -> Filling:
        filling = Filling(self._plan.rows, self._plan.bytes)
        self._fillings.append(filling)
        return filling

    async def _params(self, admitted: Admitted) -> bytes | Failure:
        params = admitted.attempt.params
        try:
            if names_files(params):
                params = await to_thread.run_sync(with_files, params, self._files)
            return (renamed(params, self._names) if self._names else params).encode()
        except AttachmentError as error:
            return Failure(ErrorClass.INPUT, str(error))
        except UnicodeEncodeError:
            return (json.dumps(json.loads(params), separators=(",", ":"))).encode()

    async def _submit(self, filling: Filling, settle: Settle, group: TaskGroup) -> None:
        """Send a batch; its intention is on record before. What becomes of it is a task of its own."""
        filling.seal()
        while self._plan.follows and self._rows_out and self._rows_out + len(filling.keys) > self._plan.queue:
            await self._came_back.wait()
        batch = await self._book.intend(filling.nonce, filling.keys, filling.size)
        reach(Point.BATCH_INTENDED)
        self._rows_out += batch.requests
        remote = await self._send(batch, filling)
        if not self._plan.follows:
            self._let_go(filling)
        elif remote is None:
            group.start_soon(self._search, batch, filling, settle)
        else:
            group.start_soon(self._follow, batch, remote, settle)

    async def _send(self, batch: Batch, filling: Filling) -> Remote | None:
        """Return what the API made of *batch*; None if nobody knows whether it arrived."""
        while True:
            answer = await self._api.create(filling.chunks(), filling.size)
            if isinstance(answer, Remote):
                reach(Point.BATCH_ANSWERED)
                self._line.answers()
                self._sent(filling)
                await self._book.told(batch, answer)
                return answer
            if answer.error_class not in _LATER and not self._line.is_passing(answer):
                await self._book.close(batch, BatchState.WITHDRAWN)
                raise self._line.error_of(answer)
            if self._plan.follows is False and answer.error_class in _LATER:
                await self._book.close(batch, BatchState.WITHDRAWN)
                raise UsageError(f"The API takes no more batches now: {answer.message.rstrip('.')}. Try again later.")
            if answer.error_class not in _LATER and (answer.possibly_paid or answer.http_status is not None):
                await self._line.pause(answer)
                return None
            await self._line.pause(answer, until=self._came_back)

    def _sent(self, filling: Filling) -> None:
        for mark_sent in filling.marks:
            mark_sent()
        self._let_go(filling)

    def _let_go(self, filling: Filling) -> None:
        filling.close()
        if filling in self._fillings:
            self._fillings.remove(filling)

    async def _carry_on(self, batch: Batch, settle: Settle) -> None:
        """Go on with a batch of an earlier run."""
        if batch.remote_id is None:
            await self._search(batch, None, settle)
            return
        remote = Remote(batch.remote_id, batch.state, batch.created_at or batch.intended_at, processing=batch.requests)
        await self._follow(batch, remote, settle, look_first=True)

    async def _search(self, batch: Batch, filling: Filling | None, settle: Settle) -> None:
        """Find out whether *batch* arrived, and go on with it; else send it again, or let its rows go."""
        while (remote := await find(self._api, self._book, self._line, batch, self._plan.polling)) is None:
            if filling is None:
                await self._book.close(batch, BatchState.WITHDRAWN)
                self._given_back(batch)
                return
            if (remote := await self._send(batch, filling)) is not None:
                break
        if filling is not None:
            self._sent(filling)
        await self._book.told(batch, remote)
        await self._follow(batch, remote, settle)

    async def _follow(self, batch: Batch, remote: Remote, settle: Settle, *, look_first: bool = False) -> None:
        await self._follower.follow(batch, remote, settle, look_first=look_first)
        self._given_back(batch)

    def _given_back(self, batch: Batch) -> None:
        self._rows_out -= batch.requests
        self._came_back.set()
        self._came_back = anyio.Event()
