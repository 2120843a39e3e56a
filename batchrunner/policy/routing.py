"""Which way requests go to the model, and how. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from batchrunner.batch import MOST_ROWS
from batchrunner.errors import UsageError
from batchrunner.policy.caps import parse_duration

_SHORTEST_POLL_S = 0.05
_MOST_QUEUED = 10_000_000


class Route(StrEnum):
    """How attempts reach the model."""

    LIVE = "live"  #: Each is a call of the Messages API.
    BATCHES = "batches"  #: Many are one batch of the Message Batches API: half the price, up to a day.


@dataclass(frozen=True, slots=True)
class Routing:
    """What the user says of the way."""

    route: Route | None = None  #: None: as the store has it: batches while requests sit in some, else live.
    rows: int = 10_000  #: In one batch at most.
    queue: int = 200_000  #: Rows with the API at once, all batches together.
    poll_s: float | None = None  #: Between the first looks at a batch; None: as the endpoint suggests.
    submit_only: bool = False  #: Leave when everything is submitted.
    then_live: bool = False  #: Send live what batches did not answer.
    deadline_s: float | None = None  #: Batches while there is time, live for what is left.
    moves: bool = False  #: Requests that sit in batches are to go live: cancel, collect, send the rest.

    def __post_init__(self) -> None:
        if self.submit_only and (self.then_live or self.deadline_s is not None or self.moves):
            raise UsageError(
                "--submit-only leaves before anything is answered; --then-live and --deadline need --wait."
            )

    def as_record(self) -> dict[str, Any]:
        """Return what the store keeps of it: plain JSON values."""
        return {
            "route": None if self.route is None else self.route.value,
            "batch_size": self.rows,
            "then_live": self.then_live,
        }


def parse_routing(given: Mapping[str, Any], last: Mapping[str, Any] = MappingProxyType({})) -> Routing:
    """Return what is *given* of the way by name, else what the *last* run had; raises `UsageError`.

    Names: route, batch_size, batch_queue, poll_s, submit_only, then_live, deadline, moves.
    """
    name = given.get("route") or last.get("route")
    if name is not None and name not in list(Route):
        raise UsageError(f"route must be live or batches, not {name!r}.")
    standard = Routing()
    size = given.get("batch_size") if given.get("batch_size") is not None else last.get("batch_size")
    poll_s = given.get("poll_s")
    if poll_s is not None and (type(poll_s) not in {int, float} or not _SHORTEST_POLL_S <= poll_s < math.inf):
        raise UsageError(f"poll_s must be a number of seconds from {_SHORTEST_POLL_S:g}, not {poll_s!r}.")
    return Routing(
        route=None if name is None else Route(name),
        rows=_number("batch_size", size, standard.rows, MOST_ROWS),
        queue=_number("batch_queue", given.get("batch_queue"), standard.queue, _MOST_QUEUED),
        poll_s=poll_s,
        submit_only=bool(given.get("submit_only")),
        then_live=bool(given.get("then_live")),
        deadline_s=parse_duration("deadline", given.get("deadline")),
        moves=bool(given.get("moves")),
    )


def _number(name: str, value: Any, standard: int, most: int) -> int:
    if value is None:
        return standard
    if type(value) is not int or not 1 <= value <= most:
        raise UsageError(f"{name} must be a whole number from 1 to {most:,}, not {value!r}.")
    return value
