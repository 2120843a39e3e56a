"""How long a server asks us to wait. Pure; never raises, whatever the headers hold."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Longest wait that is honoured, in seconds; a server that asks for more gets this.
LONGEST_S = 300.0

# A number of seconds has few digits; longer ones are nonsense and cost time to read.
_LONGEST_VALUE = 64


def retry_after_s(headers: Mapping[str, str], now_utc: datetime | None = None) -> float | None:
    """Return the wait in seconds, in (0, 300], or None when the server asks for none that makes sense.

    *headers* has lower-case names or ignores case. `retry-after-ms` goes before `retry-after`, which may be seconds
    or an HTTP date; a date is measured against the response's own `date`, so that a wrong clock on either side does
    no harm, and against *now_utc* (aware) only when that is missing. Of several values joined by commas the first
    one that makes sense counts.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _clamped(milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is None:
        seconds = _seconds_until(value, headers.get("date"), now_utc)
    return None if seconds is None else _clamped(seconds)


def _clamped(seconds: float) -> float:
    return min(seconds, LONGEST_S)


def _seconds(value: str | None) -> float | None:
    """Return the first number in *value* that is finite and above zero."""
    for part in (value or "").split(",", 4)[:4]:
        text = part.strip()
        if not text or len(text) > _LONGEST_VALUE or "_" in text or not text.isascii():
            continue
        try:
            number = float(text)
        except ValueError:
            continue
        if math.isfinite(number) and number > 0:
            return number
    return None


def _seconds_until(value: str | None, date: str | None, now_utc: datetime | None) -> float | None:
    moment = _moment(value)
    now = _moment(date) or now_utc
    if moment is None or now is None:
        return None
    seconds = (moment - now).total_seconds()
    return seconds if seconds > 0 else None


def _moment(value: str | None) -> datetime | None:
    if not value or len(value) > _LONGEST_VALUE:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # "-0000" parses as naive; HTTP dates are always in UTC.
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
