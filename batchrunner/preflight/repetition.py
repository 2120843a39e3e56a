"""Requests that begin alike and mark nothing for the prompt cache: where a marker would pay, and how much."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.policy.estimates import CHARS_PER_TOKEN
from batchrunner.policy.prefixes import MARKER, minimum_tokens
from batchrunner.preflight.findings import LINES_KEPT, Fault, Findings, note
from batchrunner.prices import Price
from batchrunner.screen import count, usd

#: What begins alike for so many characters is taken for one group: less than any model's cache keeps.
_PROBE = 1600
#: So much of a beginning is looked at; a longer one is said to be at least so long.
_MOST_CHARS = 100_000
#: So many groups are watched at a time: memory does not grow with the input, and a frequent one is not lost.
_MOST_GROUPS = 32
#: So many requests make a group worth a word.
_FEWEST = 3
_READ, _WRITE = 0.1, 1.25  # price of a cached token, as a part of that of a plain one


@dataclass(slots=True)
class _Group:
    beginning: str  # what all of them share, as far as it is looked at
    number: int
    weight: int  # what is left of the number after giving way to others
    lines: list[int]


class Repetition:
    """Watches what requests begin with. Counts are exact unless there are more than some dozens of groups."""

    def __init__(self, prices: Callable[[str], Price | None]) -> None:
        """*prices*: looks up the price of a model; None: not known."""
        self._prices = prices
        self._groups: dict[tuple[str, str], _Group] = {}

    def add(self, model: str, params: Mapping[str, Any], text: str, line: int) -> None:
        """Look at one request: its *params*, and the same as JSON *text*."""
        if len(text) < _PROBE or MARKER in text:
            return
        beginning = _beginning(params)
        if len(beginning) < _PROBE:
            return
        key = (model, beginning[:_PROBE])
        if (group := self._groups.get(key)) is None:
            self._take_in(key, _Group(beginning, 1, 1, [line]))
            return
        group.number += 1
        group.weight += 1
        group.beginning = _shared(group.beginning, beginning)
        if len(group.lines) < LINES_KEPT:
            group.lines.append(line)

    def report(self, findings: Findings) -> None:
        """Note where a marker would pay, the largest saving first."""
        found = []
        for (model, _), group in self._groups.items():
            tokens = int(len(group.beginning) / CHARS_PER_TOKEN)
            if group.number >= _FEWEST and tokens >= minimum_tokens(model):
                saved = tokens * (group.number - (group.number - 1) * _READ - _WRITE)
                found.append((saved, model, tokens, group))
        for saved, model, tokens, group in sorted(found, key=lambda each: -each[0]):
            findings.add_many(self._fault(model, tokens, saved, group), group.number, group.lines)

    def _fault(self, model: str, tokens: int, saved: float, group: _Group) -> Fault:
        least = "at least " if len(group.beginning) >= _MOST_CHARS else ""
        price = self._prices(model)
        worth = "" if price is None else f", {usd(saved * price.rates.input)}"
        return note(
            "cache-marker",
            f"{model}: {count(group.number)} requests begin with the same text, {least}about {count(tokens)} tokens",
            f"a block of its own for it, marked with cache_control, would save about {count(round(saved))} tokens' worth of "
            f"input{worth} (docs/caching.md)",
        )

    def _take_in(self, key: tuple[str, str], group: _Group) -> None:
        """Watch *group* too; where there are too many, all of them lose a little, and those without weight go."""
        if len(self._groups) < _MOST_GROUPS:
            self._groups[key] = group
            return
        for name, other in list(self._groups.items()):
            other.weight -= 1
            if not other.weight:
                del self._groups[name]


def _beginning(params: Mapping[str, Any]) -> str:
    """Return the prompt of *params* in the order in which the cache sees it, as far as it is looked at."""
    parts, size = [], 0
    for part in _parts(params):
        parts.append(part)
        size += len(part)
        if size > _MOST_CHARS:
            break
    return "\0".join(parts)[:_MOST_CHARS]


def _parts(params: Mapping[str, Any]) -> Iterator[str]:
    if tools := params.get("tools"):
        yield json.dumps(tools)
    yield from _texts(params.get("system"))
    messages = params.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield str(message.get("role"))
            yield from _texts(message.get("content"))


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for block in content:
            text = block.get("text") if isinstance(block, dict) else None
            yield text if isinstance(text, str) else json.dumps(block)


def _shared(one: str, other: str) -> str:
    """Return what both begin with."""
    if other.startswith(one):
        return one
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]
