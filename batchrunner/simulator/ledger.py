"""The ledger: what arrived, what became of it, and what was paid. Append-only; it never holds a credential."""

import json
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MESSAGES_PATH = "/v1/messages"
BATCHES_PATH = "/v1/messages/batches"
#: What a row of a batch costs, as a part of the price of a call.
BATCH_PRICE = 0.5

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it arrived, and what was decided on it at once."""

    number: int  #: From 1, over all paths.
    path: str  #: Without the query.
    body: str  #: `answers.body_sha256` of the body; empty if there was none.
    attempt: int  #: 1 for the first arrival of this body.
    action: str  #: `answered`, `limited`, `rejected`, `served` (other paths) or the name of a fault.
    status: int  #: 0 where no status line is sent.
    accepted: bool = False  #: Passed the limits.
    paid: bool = False  #: The answer is produced and billed, whether it arrives or not.
    model: str = ""
    input_tokens: int = 0  #: Neither read from the cache nor written to it.
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    charge_pusd: int | None = 0  #: What it costs if it is paid, in picodollars; None: the model has no price here.


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One row of a batch as it ended."""

    batch: str  #: Id.
    custom_id: str
    body: str  #: `answers.body_sha256` of its params.
    attempt: int  #: 1 for the first try of this body, by whatever way; 0: it was never worked on.
    action: str  #: `succeeded`, `errored`, `canceled` or `expired`.
    paid: bool = False
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    charge_pusd: int | None = 0  #: As of `Arrival`, at the price of batches.


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a ledger. Only `POST /v1/messages` counts, but for `others` and what begins with `batch`."""

    arrivals: int
    others: int  #: Arrivals on other paths.
    open: int  #: Arrivals that are still being answered.
    accepted: int
    paid: int  #: Answers that were billed.
    undelivered: int  #: Paid answers whose reply did not get out whole: the client had gone, or a fault cut it.
    paid_more_than_once: Mapping[str, int]  #: Body -> number of paid answers, in batches too, where there were several.
    statuses: Mapping[int, int]
    actions: Mapping[str, int]
    input_tokens: int  #: Of paid answers, outside of the cache.
    output_tokens: int
    cache_reads: int  #: Paid answers that read something of the cache.
    cache_writes: int
    cache_read_tokens: int
    cache_write_tokens: int  #: For whatever time.
    batches: int = 0  #: Batches that had a row that was worked on, or ended without.
    batch_rows: Mapping[str, int] = field(default_factory=dict)  #: How the rows of batches ended.
    batch_input_tokens: int = 0  #: Of paid rows, at half the price.
    batch_output_tokens: int = 0
    charged_pusd: int = 0  #: All that was paid, calls and rows of batches, in picodollars.
    unpriced: int = 0  #: Paid answers of models that have no price here.


class Ledger:
    """Keeps the figures in memory and, with a path, one JSON line per arrival and one per end in a file.

    Every line is handed to the kernel before the reply goes on, so that the file is whole whenever a client is killed.
    Memory grows with the number of different bodies, by some 300 bytes for each.
    """

    def __init__(self, path: Path | None = None, *, epoch: datetime | None = None) -> None:
        #: The wall clock at instant 0 of the simulator.
        self.epoch = datetime.now(UTC) if epoch is None else epoch
        self._file = None if path is None else path.open("ab", buffering=0)
        self._counts: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._actions: Counter[str] = Counter()
        self._attempts: dict[str, int] = {}
        self._paid: dict[str, int] = {}
        self._accepted_at = array("d")
        self._batches: set[str] = set()
        self._batch_rows: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if there is one; the figures stay."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def next_number(self) -> int:
        """The number of the next arrival."""
        return self._counts["arrivals"] + self._counts["others"] + 1

    def next_attempt(self, body: str) -> int:
        """Return which arrival of *body* (its hash) the next one will be, from 1."""
        return self._attempts.get(body, 0) + 1

    def arrive(self, arrival: Arrival, now: float) -> None:
        """Note that a request has arrived at *now*, and what it will get."""
        self._fold_arrival(arrival, now)
        facts = {"path": arrival.path, "model": arrival.model, "accepted": arrival.accepted}
        self._write("arrival", arrival, now, facts)

    def end(self, arrival: Arrival, now: float, bytes_sent: int, *, delivered: bool) -> None:
        """Note that the server is done with *arrival*: *bytes_sent* of the body are out, all of it if *delivered*."""
        self._fold_end(arrival, delivered=delivered)
        facts = {
            "bytes": bytes_sent,
            "delivered": delivered,
            "paid": arrival.paid,
            "input_tokens": arrival.input_tokens,
            "output_tokens": arrival.output_tokens,
            "charge_pusd": arrival.charge_pusd if arrival.paid else 0,
        }
        if arrival.cache_read_tokens or _written(arrival):
            facts |= {name: getattr(arrival, name) for name in _CACHED}
        self._write("end", arrival, now, facts)

    def book(self, row: BatchRow, now: float) -> None:
        """Note that a row of a batch came to its end at *now*; if it is paid, at half the price."""
        self._fold_row(row)
        facts = {name: getattr(row, name) for name in BatchRow.__dataclass_fields__}
        self._put({"event": "batch_row", "t": round(now, 6), "at": self._at(now), **facts, "price": BATCH_PRICE})

    def summary(self) -> Summary:
        """Return the figures so far."""
        counts = self._counts
        return Summary(
            arrivals=counts["arrivals"],
            others=counts["others"],
            open=counts["arrivals"] - counts["ends"],
            accepted=len(self._accepted_at),
            paid=counts["paid"],
            undelivered=counts["undelivered"],
            paid_more_than_once={body: times for body, times in self._paid.items() if times > 1},
            statuses=dict(self._statuses),
            actions=dict(self._actions),
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
            cache_reads=counts["cache_reads"],
            cache_writes=counts["cache_writes"],
            cache_read_tokens=counts["cache_read_tokens"],
            cache_write_tokens=counts["cache_write_tokens"],
            batches=len(self._batches),
            batch_rows=dict(self._batch_rows),
            batch_input_tokens=counts["batch_input_tokens"],
            batch_output_tokens=counts["batch_output_tokens"],
            charged_pusd=counts["charged_pusd"],
            unpriced=counts["unpriced"],
        )

    def max_in_window(self, period_s: float) -> int:
        """Return the largest number of accepted arrivals in any half-open period of *period_s* seconds."""
        most, inside = 0, deque[float]()
        for instant in self._accepted_at:
            inside.append(instant)
            while inside[0] + period_s <= instant:
                inside.popleft()
            most = max(most, len(inside))
        return most

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """Return the ledger that *path* holds, for its figures; a torn last line is left out."""
        ledger = cls()
        epoch: datetime | None = None
        for line in read_lines(path):
            at = datetime.fromisoformat(line["at"])
            epoch = epoch or at - timedelta(seconds=line["t"])
            if line["event"] == "batch_row":
                ledger._fold_row(
                    BatchRow(**{name: line[name] for name in BatchRow.__dataclass_fields__ if name in line})
                )
                continue
            arrival = Arrival(**{name: line[name] for name in Arrival.__dataclass_fields__ if name in line})
            if line["event"] == "arrival":
                ledger._fold_arrival(arrival, (at - epoch).total_seconds())
            else:
                ledger._fold_end(arrival, delivered=line["delivered"])
        ledger.epoch = epoch or ledger.epoch
        return ledger

    def _fold_arrival(self, arrival: Arrival, now: float) -> None:
        if arrival.path != MESSAGES_PATH:
            self._counts["others"] += 1
            return
        self._counts["arrivals"] += 1
        self._statuses[arrival.status] += 1
        self._actions[arrival.action] += 1
        self._attempts[arrival.body] = arrival.attempt
        if arrival.accepted:
            self._accepted_at.append(now)

    def _fold_end(self, arrival: Arrival, *, delivered: bool) -> None:
        if arrival.path != MESSAGES_PATH:
            return
        self._counts["ends"] += 1
        if arrival.paid:
            self._paid[arrival.body] = self._paid.get(arrival.body, 0) + 1
            self._counts["paid"] += 1
            self._counts["undelivered"] += not delivered
            self._counts["input_tokens"] += arrival.input_tokens
            self._counts["output_tokens"] += arrival.output_tokens
            self._counts["cache_reads"] += arrival.cache_read_tokens > 0
            self._counts["cache_writes"] += _written(arrival) > 0
            self._counts["cache_read_tokens"] += arrival.cache_read_tokens
            self._counts["cache_write_tokens"] += _written(arrival)
            self._charge(arrival.charge_pusd)

    def _fold_row(self, row: BatchRow) -> None:
        self._batches.add(row.batch)
        self._batch_rows[row.action] += 1
        if row.attempt:
            self._attempts[row.body] = row.attempt
        if row.paid:
            self._paid[row.body] = self._paid.get(row.body, 0) + 1
            self._counts["batch_input_tokens"] += row.input_tokens
            self._counts["batch_output_tokens"] += row.output_tokens
            self._charge(row.charge_pusd)

    def _charge(self, charge_pusd: int | None) -> None:
        self._counts["unpriced"] += charge_pusd is None
        self._counts["charged_pusd"] += charge_pusd or 0

    def _at(self, now: float) -> str:
        return (self.epoch + timedelta(seconds=now)).isoformat(timespec="microseconds")

    def _write(self, event: str, arrival: Arrival, now: float, facts: Mapping[str, Any]) -> None:
        line = {
            "event": event,
            "t": round(now, 6),
            "at": self._at(now),
            "number": arrival.number,
            "body": arrival.body,
            "attempt": arrival.attempt,
            "action": arrival.action,
            "status": arrival.status,
            "path": arrival.path,
            **facts,
        }
        self._put(line)

    def _put(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(_ENCODER.encode(line).encode() + b"\n")


def _written(arrival: Arrival) -> int:
    return arrival.cache_write_5m_tokens + arrival.cache_write_1h_tokens


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a ledger's file as they were written, in order; a torn last line is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
