"""What the batches engine is given beside `take` and `settle`: a book in which nothing gets lost, and a plan."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batchrunner.batch import MOST_BYTES, MOST_ROWS, Batch, BatchState, Remote, RowKey
from batchrunner.engines import Admitted
from batchrunner.policy.batching import Polling

#: A little below what the API takes, for what stands around the rows.
_BYTES = MOST_BYTES - (1 << 20)


@dataclass(frozen=True, slots=True)
class Plan:
    """How requests are put into batches."""

    rows: int = 10_000  #: In one batch at most.
    bytes: int = _BYTES  #: Of one body at most.
    queue: int = MOST_ROWS  #: Rows that are with the API at once, all batches together.
    polling: Polling = field(default_factory=Polling)
    linger_s: float = 0.25  #: A batch that is not full is sent when nothing came for so long.
    follows: bool = True  #: False: leave when everything is submitted.


class Book(Protocol):
    """Keeps track of batches for an engine that touches no store. What returns is durable."""

    def open(self) -> Sequence[Batch]:
        """Return the batches that requests sit in from earlier."""
        ...

    async def intend(self, nonce: str, keys: Sequence[RowKey], size: int) -> Batch:
        """Note that a batch of these rows and so many bytes is about to be sent."""
        ...

    async def known(self) -> Collection[str]:
        """Return the API's ids of all batches that are on record."""
        ...

    async def told(self, batch: Batch, remote: Remote) -> Batch:
        """Note what the API says of *batch*; return it as it is now."""
        ...

    async def asked_to_cancel(self, batch: Batch) -> None:
        """Note that the API was asked to cancel *batch*."""
        ...

    async def recall(self, batch: Batch, keys: Sequence[RowKey]) -> Sequence[Admitted]:
        """Return the attempts among *keys* that are not settled yet."""
        ...

    async def free(self, batch: Batch, keys: Sequence[RowKey]) -> None:
        """The API never worked on these rows."""
        ...

    async def left(self, batch: Batch) -> Sequence[RowKey]:
        """Return some of the rows that are not settled yet; none when all are."""
        ...

    async def close(self, batch: Batch, state: BatchState) -> None:
        """*batch* is done with: collected, withdrawn or lost. Rows that are left in it are free again."""
        ...
