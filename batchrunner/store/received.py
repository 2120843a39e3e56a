"""Reading back what an endpoint has answered, whatever it was: JSON that Python's reader refuses is no reason to fail."""

import json
from typing import Any

#: Python turns no more digits than this into a number.
_MOST_DIGITS = 4000


def received(text: str) -> Any:
    """Return what the JSON *text* of an answer says: numbers of thousands of digits as texts, and *text* itself if it is too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        return text
    except ValueError:
        pass
    try:
        return json.loads(text, parse_int=_number)
    except (ValueError, RecursionError):
        return text


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits
