"""The live route: each attempt is one call of the Messages API, made from this process."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from batchrunner.api.sender import Sender
from batchrunner.attachments import AttachmentError, names_files, with_files
from batchrunner.engines import Admitted, Settle, Take
from batchrunner.failpoints import Point, reach
from batchrunner.model import ErrorClass, Failure, Outcome

#: More than any number of slots: the dispatcher bounds what is in flight.
_ALL = 1_000_000
#: So many attempts have their files read at a time.
_READERS = 4


class _Crew:
    """Tasks that carry attempts, one each at a time. Who is done takes the next one: a new task costs more than a wake."""

    def __init__(self, group: TaskGroup, carry: Callable[[Admitted], Awaitable[None]]) -> None:
        self._group = group
        self._carry = carry
        self._waiting: deque[Admitted] = deque()
        self._idle: list[anyio.Event] = []
        self._is_dismissed = False

    def carry(self, batch: Iterable[Admitted]) -> None:
        """Carry all of *batch* at once."""
        for admitted in batch:
            self._waiting.append(admitted)
            if self._idle:
                self._idle.pop().set()
            else:
                self._group.start_soon(self._work)

    def dismiss(self) -> None:
        """There will be no more: whoever has nothing to do goes."""
        self._is_dismissed = True
        while self._idle:
            self._idle.pop().set()

    async def _work(self) -> None:
        while True:
            while self._waiting:
                await self._carry(self._waiting.popleft())
            if self._is_dismissed:
                return
            called = anyio.Event()
            self._idle.append(called)
            await called.wait()


class LiveEngine:
    """Sends through a sender, each attempt in a task that has no other at the time."""

    def __init__(self, sender: Sender, files: Path | None = None) -> None:
        """Send through *sender*; requests may name files below the directory *files*."""
        self._sender = sender
        self._files = files
        self._reading = anyio.CapacityLimiter(_READERS)

    async def run(self, take: Take, settle: Settle) -> None:
        """Work until `take` has no more and every attempt taken is settled."""

        async def carry(admitted: Admitted) -> None:
            outcome = await self._outcome(admitted)
            reach(Point.ANSWERED)
            await settle(admitted, outcome)

        async with anyio.create_task_group() as group:
            crew = _Crew(group, carry)
            while batch := await take(_ALL):
                crew.carry(batch)
            crew.dismiss()

    async def _outcome(self, admitted: Admitted) -> Outcome:
        attempt = admitted.attempt
        if names_files(attempt.params):
            try:
                body = await to_thread.run_sync(with_files, attempt.params, self._files, limiter=self._reading)
            except AttachmentError as error:
                return Failure(ErrorClass.INPUT, str(error))
            attempt = replace(attempt, params=body)
        reach(Point.BEFORE_SEND)
        return await self._sender.send(attempt, admitted.mark_sent, admitted.mark_begun)
