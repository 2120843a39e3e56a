"""What the simulator shall be like, and how that is written on a command line."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.simulator.batch_settings import BatchSettings
from batchrunner.simulator.catalogue import DEFAULT_MODELS
from batchrunner.simulator.chance import SIGMA, Shape, Spread
from batchrunner.simulator.faults import FAULTS
from batchrunner.simulator.shares import Tenant

_LATENCY = Spread(0.05, 0.05)
_UNITS_S = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests or tokens in a period."""

    amount: float
    period_s: float = 60.0

    @property
    def per_s(self) -> float:
        """The rate."""
        return self.amount / self.period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """A simulator's character. The defaults: answers after 50 ms, no limits, no faults, any credential."""

    latency: Spread = _LATENCY  #: Seconds from request to complete answer.
    output_tokens: Spread | None = None  #: Length of answers; None: one short line.
    tokens_per_s: float | None = None  #: How fast answers are written, on top of the latency; None: at once.
    requests: Quota | None = None  #: Limits hold for each model on its own.
    input_tokens: Quota | None = None
    output_tokens_limit: Quota | None = None
    concurrency: int | None = None  #: Requests that may be answered at once; more get the fault `429_concurrency`.
    outage: Spread | None = None  #: From `low` to `high` seconds after the start everything gets a 529.
    silence: Spread | None = None  #: Between these seconds every request is taken and never answered.
    bucket_s: float = 60.0  #: Depth of the token buckets, in seconds of the rate.
    strict: bool = False  #: Strict sliding windows in place of the token buckets.
    reserve_output: bool = False  #: Output counts as `max_tokens` from admission to end, not as it is produced.
    tenant: Tenant | None = None  #: Somebody else on the same limits, of whom only `remaining` and `reset` tell.
    accelerate_s: float | None = None  #: With traffic the rates climb from a tenth to the whole in so many seconds.
    cache: bool = True  #: Prompts are cached as `cache_control` asks; some gateways ignore it.
    limit_headers: bool = True  #: Send `anthropic-ratelimit-*`; gateways often leave them out.
    faults: Mapping[str, float] = field(default_factory=dict)  #: Name -> probability for an arrival.
    retry_after_s: float = 1.0  #: Sent with the faults `429` and `429_ramp`.
    seed: int = 1
    api_key: str | None = field(default=None, repr=False)  #: The only credential that is let in; None: any.
    models: tuple[str, ...] = DEFAULT_MODELS  #: What `GET /v1/models` lists.
    batches: BatchSettings = field(default_factory=BatchSettings)  #: The Message Batches API.


def parse_spec(text: str) -> SimulatorSettings:
    """Return the settings written in *text*: `latency=1..10,rpm=4000,bucket_s=10,429=0.02,seed=7`; empty: defaults.

    Raise `UsageError` for names and values that make no sense.
    """
    options: dict[str, Any] = {}
    batches: dict[str, Any] = {}
    faults: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in _OPTIONS and name not in _BATCH_OPTIONS and name not in FAULTS:
            raise UsageError(
                f"simulator: {name!r} is unknown. Settings: {', '.join((*_OPTIONS, *_BATCH_OPTIONS))}. "
                f"Faults (NAME=PROBABILITY): {', '.join(FAULTS)}."
            )
        if not equals or not value:
            raise UsageError(f"simulator: {name} needs a value: {name}=...")
        field_name, parse = (_OPTIONS | _BATCH_OPTIONS).get(name, (name, _probability))
        target = faults if name in FAULTS else batches if name in _BATCH_OPTIONS else options
        if field_name in target:
            raise UsageError(f"simulator: {name}={value}: this is set twice.")
        target[field_name] = _parsed(parse, name, value)
    if sum(faults.values()) > 1:
        raise UsageError("simulator: the probabilities of the faults add up to more than 1.")
    return SimulatorSettings(**options, faults=faults, batches=BatchSettings(**batches))


def _parsed(parse: Callable[[str], object], name: str, value: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        shown = "..." if name == "key" else value
        raise UsageError(f"simulator: {name}={shown}: {error}.") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError("must be a finite number, zero or more")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value == 0:
        raise ValueError("must be more than zero")
    return value


def _probability(text: str) -> float:
    value = _number(text)
    if value > 1:
        raise ValueError("a probability is between 0 and 1")
    return value


def _spread(text: str) -> Spread:
    """Read `0.5`, `0.5..2`, `lognormal:1..10` or, with a sigma, `lognormal:17..4096:0.9`."""
    shape, colon, rest = text.partition(":")
    kind = Shape(shape) if colon else Shape.UNIFORM
    ends, another, sigma = (rest if colon else text).partition(":")
    low_text, dots, high_text = ends.partition("..")
    low = _number(low_text)
    high = _number(high_text) if dots else low
    if high < low:
        raise ValueError("the first number is above the second")
    if kind is Shape.UNIFORM:
        if another:
            raise ValueError("only a lognormal spread has a sigma")
        return Spread(low, high)
    if low == 0:
        raise ValueError("a lognormal spread starts above zero")
    return Spread(low, high, kind, _number(sigma) if another else SIGMA)


def _per_minute(text: str) -> Quota:
    return Quota(_positive(text))


def _rate(text: str) -> Quota:
    """Read `600/10s`, `10/s` or `4000/min`."""
    amount, slash, period = text.partition("/")
    unit = period.lstrip("0123456789.")
    if not slash or unit not in _UNITS_S:
        raise ValueError("write it as 600/10s, 10/s or 4000/min")
    count = period.removesuffix(unit)
    return Quota(_positive(amount), (_positive(count) if count else 1.0) * _UNITS_S[unit])


def _switch(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return text == "1"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("not a whole number") from None


def _count(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise ValueError("must be 1 or more")
    return value


def _span(text: str) -> Spread:
    """Read `10..70`."""
    if ":" in text or ".." not in text:
        raise ValueError("write it as 10..70, in seconds after the start")
    return _spread(text)


def _tenant(text: str) -> Tenant:
    """Read `75..195:0.5` or `75..:0.5`, which has no end."""
    span, colon, taken = text.rpartition(":")
    from_text, dots, to_text = span.partition("..")
    if not colon or not dots:
        raise ValueError("write it as FROM..TO:SHARE or FROM..:SHARE, such as 75..195:0.5")
    tenant = Tenant(_number(from_text), _number(to_text) if to_text else math.inf, _probability(taken))
    if tenant.to_s <= tenant.from_s:
        raise ValueError("it ends before it begins")
    if tenant.share == 1 and math.isinf(tenant.to_s):
        raise ValueError("nothing would ever be left")
    return tenant


def _charging(text: str) -> bool:
    if text not in {"produced", "reserved"}:
        raise ValueError("must be produced or reserved")
    return text == "reserved"


_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "latency": ("latency", _spread),
    "rpm": ("requests", _per_minute),
    "rate": ("requests", _rate),
    "itpm": ("input_tokens", _per_minute),
    "otpm": ("output_tokens_limit", _per_minute),
    "concurrency": ("concurrency", _count),
    "outage": ("outage", _span),
    "silence": ("silence", _span),
    "bucket_s": ("bucket_s", _positive),
    "strict": ("strict", _switch),
    "output_limit": ("reserve_output", _charging),
    "tenant": ("tenant", _tenant),
    "accelerate": ("accelerate_s", _positive),
    "cache": ("cache", _switch),
    "headers": ("limit_headers", _switch),
    "retry_after": ("retry_after_s", _number),
    "seed": ("seed", _whole),
    "key": ("api_key", str),
    "output_tokens": ("output_tokens", _spread),
    "tokens_per_s": ("tokens_per_s", _positive),
}
_BATCH_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "batches": ("offered", _switch),
    "batch_s": ("seconds", _spread),
    "batch_expires_s": ("expires_s", _positive),
    "batch_kept_s": ("kept_s", _positive),
    "batch_cancel_s": ("cancel_s", _number),
    "batch_queue": ("queue", _count),
    "batch_errored": ("errored", _probability),
    "batch_expired": ("expired", _probability),
    "batch_failing": ("failing", _probability),
    "batch_lost": ("lost", _probability),
    "batch_cut": ("cut", _probability),
    "batch_results_host": ("results_host", str),
}
