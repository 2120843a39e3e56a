"""The API's limits: requests, input tokens and output tokens, each model on its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchrunner.simulator.meters import TINY, Bucket, Meter, SlidingWindow
from batchrunner.simulator.outputs import Outputs
from batchrunner.simulator.settings import Quota, SimulatorSettings
from batchrunner.simulator.shares import Share


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in."""

    limit: str  #: As the headers name it: `requests`, `input-tokens`, `output-tokens`.
    amount: int  #: The limit, per minute.
    retry_after_s: int  #: Whole seconds, at least 1.
    ramp: bool = False  #: Only because traffic has to climb slowly.


class _Pool:
    """What one model's requests draw on."""

    def __init__(self, settings: SimulatorSettings, quotas: dict[str, Quota]) -> None:
        self.share = Share(settings.tenant, settings.accelerate_s)
        self._meters = {name: self._meter(settings, quota) for name, quota in quotas.items()}
        output = self._meters.get("output-tokens")
        self.outputs = None if output is None else Outputs(output, reserved=settings.reserve_output)

    def _meter(self, settings: SimulatorSettings, quota: Quota) -> Meter:
        return SlidingWindow(quota, self.share) if settings.strict else Bucket(quota, settings.bucket_s, self.share)

    def meters(self, now: float) -> dict[str, Meter]:
        """Return the meters by name, as they stand at *now*."""
        if self.outputs is not None:
            self.outputs.meter(now)
        return self._meters

    def arrive(self, now: float) -> None:
        """Note an arrival: a climb may begin with it."""
        if self.share.traffic(now):
            for meter in self.meters(now).values():
                meter.climb(now)


class Limits:
    """All limits of an organisation. Without quotas everything is let in, and no header says anything."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        quotas = {
            "requests": settings.requests,
            "input-tokens": settings.input_tokens,
            "output-tokens": settings.output_tokens_limit,
        }
        self._quotas = {name: quota for name, quota in quotas.items() if quota is not None}
        self._pools: dict[str, _Pool] = {}

    def admit(self, model: str, input_tokens: int, max_tokens: int, now: float) -> Refusal | None:
        """Let a request in and count it, or say why not; what is refused does not count."""
        pool = self._pool(model)
        pool.arrive(now)
        meters = pool.meters(now)
        needs = {"requests": 1, "input-tokens": input_tokens}
        if pool.outputs is not None:
            needs["output-tokens"] = pool.outputs.need(max_tokens)
        wait_s, name = max(
            ((meter.wait_s(now, needs[name]), name) for name, meter in meters.items()), default=(0.0, "")
        )
        if wait_s > 0:
            retry_after_s = max(1, math.ceil(wait_s - TINY))
            return Refusal(name, self._per_minute(name), retry_after_s, ramp=pool.share.climbing(now))
        for name in meters.keys() - {"output-tokens"}:
            meters[name].take(now, needs[name])
        return None

    def answering(self, model: str, output_tokens: int, max_tokens: int, now: float, lasts_s: float) -> None:
        """Count an answer to a request that was let in, which is produced in the next *lasts_s* seconds."""
        if (outputs := self._pool(model).outputs) is not None:
            outputs.begin(now, output_tokens, max_tokens, lasts_s)

    def ours_s(self, model: str, upto: float) -> float:
        """Return how many seconds of the whole rate were ours from the start to *upto*, by the latest climb alone."""
        return self._pool(model).share.volume(0.0, upto)

    def headers(self, model: str, now: float, utc_now: datetime) -> dict[str, str]:
        """Return the `anthropic-ratelimit-*` headers; figures are per minute, tokens rounded to thousands."""
        found: dict[str, str] = {}
        if not self._settings.limit_headers:
            return found
        tokens: list[tuple[int, float, float]] = []
        for name, meter in self._pool(model).meters(now).items():
            figures = self._per_minute(name), meter.left(now), meter.full_s(now)
            if name != "requests":
                tokens.append(figures)
            found.update(_headers(name, *figures, utc_now))
        if tokens:
            limits, lefts, fulls = zip(*tokens, strict=True)
            found.update(_headers("tokens", sum(limits), sum(lefts), max(fulls), utc_now))
        return found

    def _pool(self, model: str) -> _Pool:
        if (pool := self._pools.get(model)) is None:
            pool = self._pools[model] = _Pool(self._settings, self._quotas)
        return pool

    def _per_minute(self, name: str) -> int:
        return round(self._quotas[name].per_s * 60)


def _headers(name: str, limit: int, left: float, full_s: float, utc_now: datetime) -> Iterator[tuple[str, str]]:
    shown = int(left) if name == "requests" else min(limit, round(left / 1000) * 1000)
    full_at = utc_now + timedelta(seconds=math.ceil(full_s))
    prefix = f"anthropic-ratelimit-{name}"
    yield f"{prefix}-limit", str(limit)
    yield f"{prefix}-remaining", str(shown)
    yield f"{prefix}-reset", full_at.isoformat()[:19] + "Z"
