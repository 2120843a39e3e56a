"""How large a job is: what of its cost and time can be told from the requests alone. Memory does not grow with them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchrunner.policy.estimates import measured
from batchrunner.policy.prefixes import MARKER, minimum_tokens, prefixes

#: So many prefixes that requests share are told apart; what comes after them counts as not shared.
_MOST_GROUPS = 10_000
_CHARS_PER_TOKEN = 4


@dataclass(slots=True)
class Shared:
    """A marked prefix, and who has it."""

    requests: float = 0
    chars: float = 0.0  #: Of the prefix, once.
    hour: bool = False  #: Kept for an hour, which is dearer to write.


@dataclass(slots=True)
class Sized:
    """The requests of one model that are priced alike."""

    requests: float = 0
    chars: float = 0.0  #: ASCII characters of the bodies, without the data of images and documents.
    wide_bytes: float = 0.0  #: Of all other characters, in UTF-8.
    blobs: float = 0  #: Images and documents.
    max_tokens: float = 0.0  #: The sum of what the requests permit.
    likely_low: float = 0.0  #: Tokens that the answers have at least, and at most, by what people ask for.
    likely_high: float = 0.0
    length: float = 0.0  #: Characters of the bodies, all of them.
    streams: float = 0  #: Cannot go into a batch as they stand.
    shared: dict[str, Shared] = field(default_factory=dict)

    def times(self, factor: float) -> "Sized":
        """Return what a job *factor* times as large would be."""
        shared = {key: Shared(one.requests * factor, one.chars, one.hour) for key, one in self.shared.items()}
        return Sized(
            self.requests * factor,
            self.chars * factor,
            self.wide_bytes * factor,
            self.blobs * factor,
            self.max_tokens * factor,
            self.likely_low * factor,
            self.likely_high * factor,
            self.length * factor,
            self.streams * factor,
            shared,
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides the price of a request beside its size."""

    model: str
    fast: bool = False
    geo: str | None = None


@dataclass(slots=True)
class JobSize:
    """A job, request by request, added up by kind."""

    kinds: dict[Kind, Sized] = field(default_factory=dict)

    @property
    def requests(self) -> float:
        """How many there are."""
        return sum(sized.requests for sized in self.kinds.values())

    def add(self, params: str, model: str, max_tokens: int) -> None:
        """Add one request; *params* is its body as JSON text."""
        special = '"speed"' in params or '"inference_geo"' in params or MARKER in params
        body = json.loads(params) if special else {}
        kind = Kind(model, body.get("speed") == "fast", _word(body.get("inference_geo")))
        sized = self.kinds.setdefault(kind, Sized())
        chars, blobs = measured(params)
        wide = 0
        if not params.isascii():
            ascii_chars = sum(map(str.isascii, params))
            wide = len(params.encode("utf-8", "surrogatepass")) - ascii_chars
            chars = max(0, chars - (len(params) - ascii_chars))
        sized.requests += 1
        sized.chars += chars
        sized.wide_bytes += wide
        sized.blobs += blobs
        sized.max_tokens += max_tokens
        low, high = likely_output(max_tokens, is_short='"json_schema"' in params)
        sized.likely_low += low
        sized.likely_high += high
        sized.length += len(params)
        sized.streams += '"stream":true' in params
        if MARKER in params:
            _add_prefix(sized, body, model)

    def times(self, factor: float) -> "JobSize":
        """Return what a job *factor* times as large would be."""
        return JobSize({kind: sized.times(factor) for kind, sized in self.kinds.items()})


def likely_output(max_tokens: float, *, is_short: bool = False) -> tuple[float, float]:
    """Return how many tokens an answer has at least and at most, mostly, to whoever permits *max_tokens*.

    People permit some times what they expect, and the more so the more they permit. *is_short*: a schema is asked for.
    """
    low = 0.1 * max_tokens if max_tokens <= 1000 else 100 * (max_tokens / 1000) ** 0.7
    high = 0.55 * max_tokens if max_tokens <= 4000 else 2200 * (max_tokens / 4000) ** 0.5
    return max(1.0, low / 3 if is_short else low), max(1.0, high / 1.5 if is_short else high)


def _add_prefix(sized: Sized, body: Mapping[str, object], model: str) -> None:
    marked = [prefix for prefix in prefixes(body) if prefix.lifetime is not None]
    if not marked:
        return
    last = marked[-1]
    if last.chars / _CHARS_PER_TOKEN < minimum_tokens(model):
        return
    if last.key in sized.shared or len(sized.shared) < _MOST_GROUPS:
        shared = sized.shared.setdefault(last.key, Shared(0, float(last.chars), last.lifetime == "1h"))
        shared.requests += 1


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None
