"""Decisions of the second route: what may go by batches, when to look again, which batch may be ours. Pure."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from batchrunner.batch import Batch, Remote

#: A server's clock may be so far from ours when its stamps are compared with our own.
_CLOCKS_APART = timedelta(minutes=10)
#: Texts of which at least one stands in params that may not go by batches: the others need not be parsed.
_SIGNS = ('"stream"', '"speed"', '"fallbacks"', '"betas"')

#: Results that are not here are worth a warning so long before they are gone, and batches before they expire.
_SOON, _LATE = timedelta(days=7), timedelta(hours=2)

NOT_STREAM = "stream: batches have no streams"
NOT_SPEED = "speed: fast mode is not for batches"
NOT_FALLBACKS = "fallbacks: not for batches"
NOT_BETAS = "betas: a batch has one set of beta headers for all its rows"
NOT_ZERO = "max_tokens 0: batches want an answer"
NOT_SIZE = "size: larger than a whole batch may be"


def why_not(params: str, max_tokens: int, largest: int) -> str | None:
    """Return why a request (*params*: JSON text) cannot go by batches, None if it can; *largest*: bytes of a row."""
    if max_tokens == 0:
        return NOT_ZERO
    if len(params) * 4 > largest and len(params.encode(errors="replace")) > largest:
        return NOT_SIZE
    if not any(sign in params for sign in _SIGNS):
        return None
    body = json.loads(params)
    named = (("stream", NOT_STREAM), ("speed", NOT_SPEED), ("fallbacks", NOT_FALLBACKS), ("betas", NOT_BETAS))
    return next((why for name, why in named if body.get(name)), None)


@dataclass(frozen=True, slots=True)
class Polling:
    """How often the state of a batch is asked for: at first soon, then less and less often."""

    first_s: float = 15.0
    cap_s: float = 60.0
    growth: float = 1.3

    def wait_s(self, looks: int) -> float:
        """Return how long to wait before the next look, after *looks* (0, 1, ...) in vain."""
        return min(self.cap_s, self.first_s * self.growth ** min(looks, 100))

    @property
    def grace_s(self) -> float:
        """How long a batch that was submitted may take to show up in the list."""
        return 2 * self.first_s


def may_be(batch: Batch, listed: Iterable[Remote], known: Collection[str]) -> list[Remote]:
    """Return which of the *listed* batches may be *batch*, whose submission was never answered; the oldest first.

    *known*: ids of batches that are on record already. The list shows no row ids, so this is a guess that only the
    results can prove: as many rows, created since, and not known.
    """
    since = datetime.fromisoformat(batch.intended_at) - _CLOCKS_APART
    found = [
        remote
        for remote in listed
        if remote.id not in known
        and remote.requests == batch.requests
        and datetime.fromisoformat(remote.created_at) >= since
    ]
    return sorted(found, key=lambda remote: remote.created_at)


def switch_at(deadline_s: float, rows: int, per_minute: float) -> float:
    """Return after how many seconds of a *deadline_s* batches must give way to live calls for *rows* that are left.

    A tenth of the time is kept for cancelling and collecting, and for a live rate that is lower than *per_minute*.
    """
    live_s = 1.25 * rows / per_minute * 60
    return max(0.0, 0.9 * deadline_s - live_s)


def warning_of(batch: Mapping[str, Any], now: datetime) -> str | None:
    """Return what to be warned of about a *batch* (its row in the store) at *now*; None if nothing."""
    name = batch["remote_id"] or f"batch {batch['id']}"
    if not batch["sitting"]:
        return None
    if batch["state"] == "submitting":
        return f"{name}: nobody knows yet whether it arrived; the next run finds out, and pays for nothing twice"
    until = batch["results_until"]
    if batch["ended_at"] and until and datetime.fromisoformat(until) - now < _SOON:
        return f"{name}: its results are gone after {until}: collect them with `batchrunner resume`"
    if not batch["ended_at"] and batch["expires_at"] and datetime.fromisoformat(batch["expires_at"]) - now < _LATE:
        return f"{name}: what is not done by {batch['expires_at']} expires, and is submitted anew"
    return None
