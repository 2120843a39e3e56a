"""The live route: each attempt is one call of the Messages API, made from this process."""

import anyio

from batchrunner.api.sender import Sender
from batchrunner.engines import Admitted, Settle, Take

#: More than any number of slots: the dispatcher bounds what is in flight.
_ALL = 1_000_000


class LiveEngine:
    """Sends through a sender, each attempt in a task of its own."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def run(self, take: Take, settle: Settle) -> None:
        """Work until `take` has no more and every attempt taken is settled."""
        async with anyio.create_task_group() as group:
            while batch := await take(_ALL):
                for admitted in batch:
                    group.start_soon(self._attempt, admitted, settle)

    async def _attempt(self, admitted: Admitted, settle: Settle) -> None:
        outcome = await self._sender.send(admitted.attempt, admitted.mark_sent)
        await settle(admitted, outcome)
