"""Which way requests go to the model, and how. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from batchrunner.errors import UsageError


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
