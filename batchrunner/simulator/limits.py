"""The API's limits: requests, input tokens and output tokens, each model on its own."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from batchrunner.simulator.settings import Quota, SimulatorSettings

_TINY = 1e-9  # what arithmetic may lose of a token


class Meter(Protocol):
    """What has been used of one limit. Instants must not go back."""

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds *need* is to be had; 0 now."""
        ...

    def take(self, now: float, amount: float) -> None:
        """Use *amount*, whether it is there or not."""
        ...

    def left(self, now: float) -> float:
        """Return what is left, zero or more."""
        ...

    def full_s(self, now: float) -> float:
        """Return in how many seconds all of it will be there again."""
        ...


class Bucket:
    """A token bucket with continuous refill. It may go into debt, and *need* above its depth waits for the brim only."""

    def __init__(self, quota: Quota, depth_s: float) -> None:
        self._per_s = quota.per_s
        self._depth = max(1.0, quota.per_s * depth_s)
        self._level = self._depth
        self._at = 0.0

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds the level reaches *need*, or the brim."""
        missing = min(need, self._depth) - self._refilled(now)
        return missing / self._per_s if missing > _TINY else 0.0

    def take(self, now: float, amount: float) -> None:
        """Lower the level by *amount*."""
        self._level = self._refilled(now) - amount

    def left(self, now: float) -> float:
        """Return the level."""
        return max(0.0, self._refilled(now) + _TINY)

    def full_s(self, now: float) -> float:
        """Return in how many seconds the level is at the brim."""
        return (self._depth - self._refilled(now)) / self._per_s

    def _refilled(self, now: float) -> float:
        self._level = min(self._depth, self._level + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
        return self._level


class SlidingWindow:
    """A strict window: never more than the quota in any period, half-open at its start."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._uses: deque[tuple[float, float]] = deque()  # (when it leaves the window, amount)
        self._used = 0.0

    def wait_s(self, now: float, need: float) -> float:
        """Return in how many seconds enough uses have left the window."""
        self._forget(now)
        excess = self._used + min(need, self._quota.amount) - self._quota.amount
        if excess <= _TINY:
            return 0.0
        for leaves_at, amount in self._uses:
            excess -= amount
            if excess <= _TINY:
                return leaves_at - now
        return self._quota.period_s

    def take(self, now: float, amount: float) -> None:
        """Note a use."""
        self._forget(now)
        self._uses.append((now + self._quota.period_s, amount))
        self._used += amount

    def left(self, now: float) -> float:
        """Return what the window that ends now still has room for."""
        self._forget(now)
        return max(0.0, self._quota.amount - self._used)

    def full_s(self, now: float) -> float:
        """Return in how many seconds the window will be empty."""
        self._forget(now)
        return self._uses[-1][0] - now if self._uses else 0.0

    def _forget(self, now: float) -> None:
        while self._uses and self._uses[0][0] <= now:
            self._used -= self._uses.popleft()[1]
        if not self._uses:
            self._used = 0.0  # what rounding left over


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in."""

    limit: str  #: As the headers name it: `requests`, `input-tokens`, `output-tokens`.
    amount: int  #: The limit, per minute.
    retry_after_s: int  #: Whole seconds, at least 1.


class Limits:
    """All limits of an organisation. Without quotas everything is let in, and no header says anything."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._strict = settings.strict
        self._depth_s = settings.bucket_s
        quotas = {
            "requests": settings.requests,
            "input-tokens": settings.input_tokens,
            "output-tokens": settings.output_tokens_limit,
        }
        self._quotas = {name: quota for name, quota in quotas.items() if quota is not None}
        self._pools: dict[str, dict[str, Meter]] = {}

    def admit(self, model: str, input_tokens: int, now: float) -> Refusal | None:
        """Let a request in and count it, or say why not; what is refused does not count."""
        pool = self._pool(model)
        # Output counts as it is produced: a request is let in while anything of that limit is left.
        needs = {"requests": 1, "input-tokens": input_tokens, "output-tokens": 1}
        wait_s, name = max(((meter.wait_s(now, needs[name]), name) for name, meter in pool.items()), default=(0.0, ""))
        if wait_s > 0:
            return Refusal(name, self._per_minute(name), max(1, math.ceil(wait_s - _TINY)))
        for name in pool.keys() - {"output-tokens"}:
            pool[name].take(now, needs[name])
        return None

    def produced(self, model: str, output_tokens: int, now: float) -> None:
        """Count the tokens of an answer, once it is finished."""
        if (meter := self._pool(model).get("output-tokens")) is not None:
            meter.take(now, output_tokens)

    def headers(self, model: str, now: float, utc_now: datetime) -> dict[str, str]:
        """Return the `anthropic-ratelimit-*` headers; figures are per minute, tokens rounded to thousands."""
        found: dict[str, str] = {}
        tokens: list[tuple[int, float, float]] = []
        for name, meter in self._pool(model).items():
            figures = self._per_minute(name), meter.left(now), meter.full_s(now)
            if name != "requests":
                tokens.append(figures)
            found.update(_headers(name, *figures, utc_now))
        if tokens:
            limits, lefts, fulls = zip(*tokens, strict=True)
            found.update(_headers("tokens", sum(limits), sum(lefts), max(fulls), utc_now))
        return found

    def _pool(self, model: str) -> dict[str, Meter]:
        if (pool := self._pools.get(model)) is None:
            pool = self._pools[model] = {name: self._meter(quota) for name, quota in self._quotas.items()}
        return pool

    def _meter(self, quota: Quota) -> Meter:
        return SlidingWindow(quota) if self._strict else Bucket(quota, self._depth_s)

    def _per_minute(self, name: str) -> int:
        return round(self._quotas[name].per_s * 60)


def _headers(name: str, limit: int, left: float, full_s: float, utc_now: datetime) -> Iterator[tuple[str, str]]:
    shown = int(left) if name == "requests" else min(limit, round(left / 1000) * 1000)
    full_at = utc_now + timedelta(seconds=math.ceil(full_s))
    prefix = f"anthropic-ratelimit-{name}"
    yield f"{prefix}-limit", str(limit)
    yield f"{prefix}-remaining", str(shown)
    yield f"{prefix}-reset", full_at.isoformat()[:19] + "Z"
