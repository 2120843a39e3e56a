"""What a reader finds in a store: typed, frozen, nothing behind it."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

#: A run that has shown no sign of life for so long is taken for dead.
HEARTBEAT_FRESH_S = 20.0

#: One request as an export shows it: `EXPORT_COLUMNS`, then `metadata` (JSON object text or None).
ExportRow = sqlite3.Row

#: The columns of an export, in their order; a column per metadata key follows.
EXPORT_COLUMNS = (
    "custom_id",
    "status",
    "text",
    "stop_reason",
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_usd",
    "attempts",
    "latency_s",
    "error_class",
    "error_message",
    "api_request_id",
)


@dataclass(frozen=True, slots=True)
class Job:
    """What the store belongs to."""

    input_path: str
    simulated: bool  #: The answers are the simulator's.
    defaults: str  #: JSON: the options its lines were read with.
    created_at: str
    import_completed_at: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How many requests of the latest input stand where; `removed` ones are in the store only."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    pending: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class LiveChange:
    """What another terminal asked of a run while it worked."""

    at: str
    what: str  #: In words.
    now: dict[str, Any]  #: What was in force from then on: `concurrency`, `rate`, `paused`.
    wish: str  #: Id of the wish that asked for it.
    refused: bool = False  #: It could not be done; all was left as it was.


class DamagedError(ValueError):
    """A record in the store has lost its form, although SQLite finds nothing wrong with the file."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process that worked, or works, on the store."""

    id: int
    version: str
    host: str
    pid: int
    started_at: str
    heartbeat_at: str
    ended_at: str | None
    ending: str | None  #: finished, halted, interrupted, died, ...
    reason: str | None
    changes: tuple[LiveChange, ...] = ()  #: Oldest first.
    #: What became of each endpoint that has a name: name, calls, answered, state, reason, outages, down_s.
    endpoints: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """Return the run of a row of `runs`, of whatever schema and with whatever other columns. Raises `DamagedError`."""
        facts = {key: row[key] for key in row.keys() if key in cls.__dataclass_fields__}  # noqa: SIM118 - a Row
        try:
            for name in ("started_at", "heartbeat_at", "ended_at"):
                datetime.fromisoformat(facts[name] or "2026-01-01")
            changes = json.loads(facts.pop("changes", "[]"))
            endpoints = tuple(json.loads(facts.pop("endpoints", "[]")))
            return cls(**facts, endpoints=endpoints, changes=tuple(LiveChange(**change) for change in changes))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"the record of a run is damaged ({error})") from error

    @property
    def is_paused(self) -> bool:
        """Whether the last word the run took in was to pause."""
        return bool(self.changes and self.changes[-1].now.get("paused"))

    def is_alive(self, now: datetime) -> bool:
        """Whether the run has not ended and has shown a sign of life in the last `HEARTBEAT_FRESH_S` seconds."""
        return self.ended_at is None and abs(seconds_between(self.heartbeat_at, now)) < HEARTBEAT_FRESH_S


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed requests with the same class and, but for numbers and ids, the same message."""

    error_class: str
    signature: str
    key: str  #: Its short name, for `retry --signature`.
    count: int
    message: str  #: Of the first of them.
    first_at: str
    last_at: str
    custom_ids: tuple[str, ...]  #: The first three.


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A request that was given up."""

    custom_id: str
    line: int
    error_class: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Named:
    """Where one request stands."""

    custom_id: str
    line: int | None  #: None: no line of the latest input any more.
    state: str
    attempts: int
    error_class: str | None  #: Of its latest attempt; None if that brought the answer, or there was none.
    message: str | None


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Pending requests that met an error, by its class, most frequent first."""

    retrying: dict[str, int]  #: The run tries them again by itself.
    put_back: dict[str, int]  #: They had been given up; the user had them put back, and no attempt has ended since.


@dataclass(frozen=True, slots=True)
class Spend:
    """What the settled attempts of one lane used: sums of what the API reported."""

    lane: str
    attempts: int
    answered: int
    possibly_paid: int  #: Not answered, but the server may have worked and billed; those in flight among them.
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    cost_usd: float | None  #: None: unknown.


@dataclass(frozen=True, slots=True)
class Retrying:
    """Requests that wait for their next attempt."""

    count: int
    next_at: str | None


@dataclass(frozen=True, slots=True)
class PossibleDuplicate:
    """An attempt that may have been paid for although no answer came of it."""

    custom_id: str
    line: int | None  #: None: no line of the latest input any more.
    number: int  #: Of the attempt.
    started_at: str
    reason: str  #: What became of it: `in flight when the run died`, or its error class.
    sent_again: bool  #: A later attempt was made.


def seconds_between(stamp: str, now: datetime) -> float:
    """Return the seconds from *stamp* (as the store writes it) to *now* (UTC, aware); negative if it lies ahead."""
    return (now - datetime.fromisoformat(stamp)).total_seconds()
