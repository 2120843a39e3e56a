"""A batch as the simulator holds it: its rows, its states, its counters."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from batchrunner.simulator.batch_rows import CANCELED, ERRORED, EXPIRED, SUCCEEDED, Done, Row, left, process
from batchrunner.simulator.chance import draw
from batchrunner.simulator.ledger import Ledger
from batchrunner.simulator.settings import SimulatorSettings

_CHUNK = 65_536


@dataclass(slots=True)
class HeldBatch:
    """One batch. Instants are seconds since the ledger's epoch; rows are worked on evenly between creation and end."""

    id: str
    rows: list[Row]
    headers: Mapping[str, str]  #: Those of its creation that matter to its rows.
    created: float
    ends: float  #: When its last row would be done.
    expires: float
    cancel_asked: float | None = None
    ended: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    total: int = field(init=False)
    _lines: list[bytes] = field(default_factory=list)
    _next: int = 0

    def __post_init__(self) -> None:
        self.total = len(self.rows)

    @property
    def status(self) -> str:
        """The API's word for its state."""
        if self.ended is not None:
            return "ended"
        return "in_progress" if self.cancel_asked is None else "canceling"

    def advance(self, now: float, at_most: int, settings: SimulatorSettings, ledger: Ledger) -> int:
        """Work on at most so many rows whose turn has come by *now*; return how many it were."""
        stop = self.expires if self.cancel_asked is None else min(self.expires, self.cancel_asked)
        worked = 0
        while self._next < self.total and worked < at_most and (due := self._due(self._next)) <= min(now, stop):
            self._keep(process(self.rows[self._next], self.id, self.headers, settings, ledger), ledger, due)
            worked += 1
        if worked < at_most and now >= (end := self._end(settings.batches.cancel_s)):
            self._finish(end, settings, ledger)
        return worked

    def chunks(self) -> Iterator[bytes]:
        """Yield the results in pieces."""
        piece: list[bytes] = []
        size = 0
        for line in self._lines:
            piece.append(line)
            size += len(line)
            if size >= _CHUNK:
                yield b"".join(piece)
                piece, size = [], 0
        if piece:
            yield b"".join(piece)

    def as_json(self, host: str, epoch: datetime, *, archived: float | None) -> dict[str, Any]:
        """Return the API's `MessageBatch`; the counters tell nothing before the end."""
        names = (SUCCEEDED, ERRORED, CANCELED, EXPIRED)
        is_over = self.ended is not None
        counts = {name: self.counts[name] if is_over else 0 for name in names}
        url = f"{host}/v1/messages/batches/{self.id}/results" if is_over and archived is None else None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {"processing": 0 if is_over else self.total, **counts},
            "ended_at": _stamp(epoch, self.ended),
            "created_at": _stamp(epoch, self.created),
            "expires_at": _stamp(epoch, self.expires),
            "archived_at": _stamp(epoch, archived),
            "cancel_initiated_at": _stamp(epoch, self.cancel_asked),
            "results_url": url,
        }

    def _due(self, index: int) -> float:
        return self.created + (self.ends - self.created) * (index + 1) / self.total

    def _end(self, cancel_s: float) -> float:
        end = min(self.ends, self.expires)
        return end if self.cancel_asked is None else min(end, self.cancel_asked + cancel_s)

    def _keep(self, done: Done, ledger: Ledger, now: float) -> None:
        self.counts[done.kind] += 1
        self._lines.append(done.line)
        self._next += 1
        ledger.book(done.booked, now)

    def _finish(self, end: float, settings: SimulatorSettings, ledger: Ledger) -> None:
        kind = EXPIRED if self.cancel_asked is None else CANCELED
        while self._next < self.total:
            self._keep(left(self.rows[self._next], self.id, kind), ledger, end)
        self.ended = end
        self.rows = []
        # In any order, but in the same one for every download.
        order = sorted(range(self.total), key=lambda index: draw(settings.seed, self.id, index, "order"))
        self._lines = [self._lines[index] for index in order]


def _stamp(epoch: datetime, instant: float | None) -> str | None:
    if instant is None:
        return None
    return (epoch + timedelta(seconds=instant)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "+00:00"
