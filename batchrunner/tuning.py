"""What a running run may be told from another terminal: other limits, pause, go on, stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Self

from batchrunner.errors import UsageError
from batchrunner.policy.window import Rate
from batchrunner.settings import LARGEST_CONCURRENCY, parse_tokens

#: The limit is what it would be had the user named none.
AUTO: Final = "auto"
Auto = Literal["auto"]

#: No account of anybody's is as large: what is above is a slip of the hand.
LARGEST_TOKENS = 10**12


class Verb(StrEnum):
    """What is wanted of the run."""

    TUNE = "tune"  #: Other limits.
    PAUSE = "pause"  #: Send nothing new; what is in flight goes on.
    UNPAUSE = "unpause"
    STOP = "stop"  #: As Ctrl-C.


@dataclass(frozen=True, slots=True)
class Tuning:
    """One wish. Limits belong to `tune` alone, which names at least one; None leaves a limit as it is.

    Raises `UsageError` for what cannot be meant.
    """

    verb: Verb = Verb.TUNE
    concurrency: int | None = None  #: Calls in flight at most.
    rate: Rate | Auto | None = None  #: Requests, per lane.
    itpm: int | Auto | None = None  #: Input tokens a minute, per lane.
    otpm: int | Auto | None = None  #: Output tokens a minute, per lane.

    def __post_init__(self) -> None:
        """Check what was given."""
        given = self.limits()
        if self.verb is Verb.TUNE and not given:
            raise UsageError("A change of limits must name one.")
        if self.verb is not Verb.TUNE and given:
            raise UsageError(f"{self.verb} takes no limits.")
        if self.concurrency is not None:
            _check_whole("concurrency", self.concurrency, LARGEST_CONCURRENCY)
        for name in ("itpm", "otpm"):
            if (value := getattr(self, name)) not in (None, AUTO):
                _check_whole(name, value, LARGEST_TOKENS)

    def limits(self) -> dict[str, Any]:
        """Return the limits that are named, as plain JSON values."""
        named = {name: getattr(self, name) for name in ("concurrency", "rate", "itpm", "otpm")}
        return {k: str(v) if isinstance(v, Rate) else v for k, v in named.items() if v is not None}

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` reads."""
        return {"verb": self.verb.value, **self.limits()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return what *value* says; raises `UsageError` for anything that `as_json` would not have written."""
        if not isinstance(value, Mapping):
            raise UsageError("A wish must be a JSON object.")
        if unknown := value.keys() - {"verb", "concurrency", "rate", "itpm", "otpm"}:
            raise UsageError(f"A wish knows no {min(map(str, unknown))!r}.")
        verb, rate = value.get("verb"), value.get("rate")
        if not isinstance(verb, str) or verb not in set(Verb):
            raise UsageError(f"A wish must be one of {', '.join(Verb)}, not {verb!r}.")
        if rate is not None and not isinstance(rate, str):
            raise UsageError(f"A rate must be text such as 600/10s, not {rate!r}.")
        limits = {name: value.get(name) for name in ("concurrency", "itpm", "otpm")}
        return cls(Verb(verb), rate=as_rate(rate) if rate is not None else None, **limits)


def as_rate(text: str) -> Rate | Auto:
    """Return what *text* means: a rate such as `600/10s`, or `auto`; raises `UsageError`."""
    return AUTO if text == AUTO else Rate.parse(text)


def as_tokens(name: str, text: str | None) -> int | Auto | None:
    """Return what *text* means for the option *name*: tokens a minute such as `400k`, or `auto`; raises `UsageError`."""
    return AUTO if text == AUTO else parse_tokens(name, text)


def _check_whole(name: str, value: object, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        raise UsageError(f"{name} must be a whole number from 1 to {largest:,}, not {value!r}.")
