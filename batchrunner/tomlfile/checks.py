"""What the keys of a TOML file may hold. A check raises `ValueError` (or `UsageError`) that goes on from the key's name."""

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.jobfile.defaults import nearest
from batchrunner.jobfile.faults import kind, shown
from batchrunner.policy.window import Rate

#: Of an amount of money.
_MOST = 1_000_000

Check = Callable[[Any], None]
Place = tuple[str, ...]


class ProblemError(ValueError):
    """What is wrong with a file; *key* is the path of the key, outermost first."""

    def __init__(self, key: Place, message: str) -> None:
        super().__init__(message)
        self.key = key


def check_known(place: Place, known: frozenset[str], root: str = "a definition") -> None:
    """Raise `ProblemError` if the last key of *place* is not *known*; *root*: what a file is called without a table."""
    key = place[-1]
    if key in known:
        return
    where = f"[{'.'.join(place[:-1])}]" if len(place) > 1 else root
    allowed = ", ".join(sorted(known))
    raise ProblemError(place, f"unknown key {shown(key)} in {where}{nearest(key, known)}. Allowed: {allowed}.")


def check_value(place: Place, check: Check, value: Any) -> None:
    """Raise what *check* has against *value* as a `ProblemError` of *place*."""
    try:
        check(value)
    except (ValueError, UsageError) as error:
        raise ProblemError(place, f"{'.'.join(place)} {error}") from None


def table(place: Place, value: Any) -> Mapping[str, Any]:
    """Return *value*, which must be a table."""
    if not isinstance(value, dict):
        raise ProblemError(place, f"{'.'.join(place)} must be a table, written [{'.'.join(place)}].")
    return value


def text(value: Any) -> None:
    """Check for a text that is not empty."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"must be a text that is not empty{but(value)}.")


def whole(low: int, high: int) -> Check:
    """Return the check for a whole number from *low* to *high*."""

    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low:,} to {high:,}{but(value)}.")

    return check


def seconds(*, zero: bool) -> Check:
    """Return the check for a length of time; *zero*: none at all is one."""

    def check(value: Any) -> None:
        number = type(value) in {int, float} and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ValueError(f"must be a number of seconds, {'0 or more' if zero else 'above 0'}{but(value)}.")

    return check


def amount(value: Any) -> None:
    """Check for an amount of money or a factor: a number from 0; one above a million is a slip, and sums would overflow."""
    if type(value) not in {int, float} or not 0 <= value <= _MOST:
        raise ValueError(f"must be a number from 0 to {_MOST:,}{but(value)}.")


def one_of(*words: str) -> Check:
    """Return the check for one of *words*."""

    def check(value: Any) -> None:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}{but(value)}.")

    return check


def switch(value: Any) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false{but(value)}.")  # noqa: TRY004 - a wrong value of the file


def rate(value: Any) -> None:
    """Check for a rate such as `600/10s`."""
    text(value)
    Rate.parse(value)


def but(value: Any) -> str:
    """Return how a message goes on that says what stands there instead."""
    said = shown(value) if isinstance(value, str) else str(value) if type(value) in {int, float} else kind(value)
    return f", not {'a date' if isinstance(value, dt.date | dt.time) else said}"
