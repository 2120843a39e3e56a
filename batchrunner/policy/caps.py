"""What the user lets a run take in money and time, and how both are written."""

import math
import re
from dataclasses import dataclass

from batchrunner.errors import UsageError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?:(\d{1,6}(?:\.\d{1,3})?)([smhd]))+")
_PART = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_MOST_SECONDS = 366 * 86_400
_MOST_USD = 10**9


@dataclass(frozen=True, slots=True)
class Caps:
    """How much money and time a run may take; None: any."""

    max_cost_usd: float | None = None  #: All runs of the store together.
    max_duration_s: float | None = None  #: This run alone, from its beginning.


def parse_duration(name: str, value: str | float | None) -> float | None:
    """Return the seconds that *value* names: `90`, `90s`, `45m`, `6h`, `1h30m`, `2d`; None for None.

    Raises `UsageError` for anything else; *name* is the option's.
    """
    if value is None:
        return None
    text = str(value).strip().lower().replace(" ", "")
    seconds = math.nan
    if not isinstance(value, bool):
        try:
            seconds = float(text)
        except ValueError:
            if _DURATION.fullmatch(text):
                seconds = sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))
    if not 0 < seconds <= _MOST_SECONDS:
        raise UsageError(f"{name} {value!r} is not a time, such as 90s, 45m, 6h or 1h30m.")
    return seconds


def parse_usd(name: str, value: str | float | None) -> float | None:
    """Return the US dollars that *value* names: `5`, `12.50`, `$20`; None for None or `none`.

    Raises `UsageError` for anything else; *name* is the option's.
    """
    if value is None or value == "none":
        return None
    text = str(value).strip().removeprefix("$")
    if _THOUSANDS.fullmatch(text):  # any other comma may be meant as a point: 1,50 is not 150
        text = text.replace(",", "")
    try:
        usd = math.nan if isinstance(value, bool) else float(text)
    except ValueError:
        usd = math.nan
    if not 0 < usd <= _MOST_USD:
        raise UsageError(f"{name} {value!r} is not an amount in US dollars, such as 20 or 12.50.")
    return usd
