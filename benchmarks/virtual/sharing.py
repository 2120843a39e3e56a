"""Jobs whose requests share long beginnings, and what they cost in tokens of plain input."""

from collections.abc import Iterator
from typing import Any

from virtual.figures import Figures

#: Keeps prefixes from 1,024 tokens on.
MODEL = "claude-sonnet-5"
#: As the API charges, in tokens of plain input.
_WRITE, _WRITE_1H, _READ = 1.25, 2.0, 0.1


def sharing(count: int, *, groups: int = 1, tokens: int = 6000, mark: object = None) -> Iterator[dict[str, Any]]:
    """Yield *count* lines that share a system prompt of *tokens*, another in each of *groups*, which take turns.

    *mark*: the `cache_control` of the prompt; None: it has none.
    """
    for number in range(count):
        block: dict[str, Any] = {"type": "text", "text": f"You are reviewer {number % groups}. {'abc ' * tokens}"}
        block["text"] = block["text"][: 4 * tokens - len('{"text":"","type":"text"}')]
        if mark is not None:
            block["cache_control"] = mark
        yield {"id": f"r{number}", "model": MODEL, "system": [block], "prompt": f"Judge the answer number {number}."}


def input_cost(figures: Figures) -> float:
    """Return what the input of all paid answers cost, in tokens of plain input."""
    arrivals = [one.arrival for one in figures.seen if one.arrival.paid]
    return sum(
        a.input_tokens
        + _WRITE * a.cache_write_5m_tokens
        + _WRITE_1H * a.cache_write_1h_tokens
        + _READ * a.cache_read_tokens
        for a in arrivals
    )


def writes(figures: Figures) -> int:
    """Return how many paid answers wrote to the cache."""
    arrivals = [one.arrival for one in figures.seen if one.arrival.paid]
    return sum(a.cache_write_5m_tokens + a.cache_write_1h_tokens > 0 for a in arrivals)
