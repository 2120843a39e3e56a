"""Where a key stands in a TOML text: `tomllib` gives values only, and a message should name the line."""

import json
import re
from collections.abc import Iterator, Sequence

_HEADER = re.compile(r"\s*\[\[?\s*(?P<name>[^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*(?P<name>(?:"[^"]*"|'[^']*'|[\w.-]|\s*\.\s*)+?)\s*=(?P<value>.*)$""")
_PART = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[\w-]+)\s*(?:\.|$)""")
_FENCES = ('"""', "'''")


def line_of(text: str, key: Sequence[str]) -> int | None:
    """Return the line (from 1) where *key* is set, its table's or an outer one's if it stands on none; None: nowhere."""
    places: dict[tuple[str, ...], int] = {}
    for number, path in _paths(text):
        for length in range(1, len(path) + 1):
            places.setdefault(path[:length], number)
    wanted = tuple(key)
    return next((places[wanted[:n]] for n in range(len(wanted), 0, -1) if wanted[:n] in places), None)


def _paths(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and path of every table header and key; keys within inline tables are left to their table."""
    table: tuple[str, ...] = ()
    fence: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is not None:
            fence = None if fence in line else fence
        elif header := _HEADER.match(line):
            table = _parts(header["name"])
            yield number, table
        elif assignment := _KEY.match(line):
            yield number, table + _parts(assignment["name"])
            fence = next((f for f in _FENCES if assignment["value"].count(f) == 1), None)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(_unquoted(match[1]) for match in _PART.finditer(name))


def _unquoted(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    try:
        return str(json.loads(part)) if part.startswith('"') else part
    except ValueError:
        return part[1:-1]
