"""The live route: each attempt is one call of the Messages API, made from this process."""

from dataclasses import replace
from pathlib import Path

import anyio
from anyio import to_thread

from batchrunner.api.sender import Sender
from batchrunner.attachments import AttachmentError, names_files, with_files
from batchrunner.engines import Admitted, Settle, Take
from batchrunner.failpoints import Point, reach
from batchrunner.model import ErrorClass, Failure, Outcome

#: More than any number of slots: the dispatcher bounds what is in flight.
_ALL = 1_000_000
#: So many attempts have their files read at a time.
_READERS = 4


class LiveEngine:
    """Sends through a sender, each attempt in a task of its own."""

    def __init__(self, sender: Sender, files: Path | None = None) -> None:
        """Send through *sender*; requests may name files below the directory *files*."""
        self._sender = sender
        self._files = files
        self._reading = anyio.CapacityLimiter(_READERS)

    async def run(self, take: Take, settle: Settle) -> None:
        """Work until `take` has no more and every attempt taken is settled."""
        async with anyio.create_task_group() as group:
            while batch := await take(_ALL):
                for admitted in batch:
                    group.start_soon(self._attempt, admitted, settle)

    async def _attempt(self, admitted: Admitted, settle: Settle) -> None:
        outcome = await self._outcome(admitted)
        reach(Point.ANSWERED)
        await settle(admitted, outcome)

    async def _outcome(self, admitted: Admitted) -> Outcome:
        attempt = admitted.attempt
        if names_files(attempt.params):
            try:
                body = await to_thread.run_sync(with_files, attempt.params, self._files, limiter=self._reading)
            except AttachmentError as error:
                return Failure(ErrorClass.INPUT, str(error))
            attempt = replace(attempt, params=body)
        reach(Point.BEFORE_SEND)
        return await self._sender.send(attempt, admitted.mark_sent)
