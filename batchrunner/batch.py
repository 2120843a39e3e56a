"""The vocabulary of the second route: what a batch is, on record and as the API tells of it. Standard library only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

#: What the API takes in one batch.
MOST_ROWS = 100_000
MOST_BYTES = 256 * 2**20
#: How long it works on a batch, and how long it keeps the results, from its creation on.
EXPIRES_S = 24 * 3600.0
KEPT_S = 29 * 24 * 3600.0

_ROW_ID = re.compile(r"(?P<nonce>[0-9a-f]{16})-(?P<seq>[0-9]{1,18})-(?P<number>[0-9]{1,9})")


class BatchState(StrEnum):
    """Where a batch stands. The arrows between states are in `BATCH_TRANSITIONS`."""

    SUBMITTING = "submitting"  #: It may have been sent; whether it arrived is not known yet.
    IN_PROGRESS = "in_progress"  #: The API works on it.
    CANCELING = "canceling"  #: It was asked to stop and has not yet.
    ENDED = "ended"  #: The API is done; the results are to be downloaded.
    COLLECTED = "collected"  #: Every result is in the store.
    WITHDRAWN = "withdrawn"  #: It never arrived; its requests are pending as if it had not been.
    LOST = "lost"  #: The API does not have its results any more.

    @property
    def is_open(self) -> bool:
        """Whether requests sit in it."""
        return self not in _CLOSED


_CLOSED = frozenset({BatchState.COLLECTED, BatchState.WITHDRAWN, BatchState.LOST})
_S = BatchState
#: Which state may follow which. What the API says of a batch may be late, but it never goes back.
BATCH_TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = MappingProxyType(
    {
        _S.SUBMITTING: frozenset({_S.IN_PROGRESS, _S.CANCELING, _S.ENDED, _S.WITHDRAWN}),
        _S.IN_PROGRESS: frozenset({_S.IN_PROGRESS, _S.CANCELING, _S.ENDED, _S.LOST}),
        _S.CANCELING: frozenset({_S.CANCELING, _S.ENDED, _S.LOST}),
        _S.ENDED: frozenset({_S.ENDED, _S.COLLECTED, _S.LOST}),
        _S.COLLECTED: frozenset(),
        _S.WITHDRAWN: frozenset(),
        _S.LOST: frozenset(),
    }
)


class RowKey(NamedTuple):
    """Which attempt of which request a row of a batch is."""

    seq: int
    number: int

    def row_id(self, nonce: str) -> str:
        """Return the `custom_id` of the row in the batch with *nonce*."""
        return f"{nonce}-{self.seq}-{self.number}"


def parse_row_id(text: object) -> tuple[str, RowKey] | None:
    """Return nonce and key of a row by its `custom_id`; None if it is none of ours."""
    match = _ROW_ID.fullmatch(text) if isinstance(text, str) else None
    return (match["nonce"], RowKey(int(match["seq"]), int(match["number"]))) if match else None


@dataclass(frozen=True, slots=True)
class Remote:
    """A batch as the API tells of it."""

    id: str
    state: BatchState  #: in_progress, canceling or ended.
    created_at: str  #: UTC stamps, as the store writes them.
    expires_at: str | None = None
    ended_at: str | None = None
    archived_at: str | None = None  #: Its results are gone since then.
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def requests(self) -> int:
        """How many rows it has."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the store has it."""

    id: int  #: In the store.
    nonce: str  #: Part of its rows' ids: tells our batches from everybody else's.
    state: BatchState
    requests: int
    intended_at: str  #: UTC stamp, before it was sent.
    remote_id: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    cancel_asked_at: str | None = None
    possible_usd: float | None = None  #: It costs at most so much.

    @property
    def row_usd(self) -> float:
        """What one of its rows costs at most, on average; 0 if no price is known."""
        return (self.possible_usd or 0.0) / max(1, self.requests)
