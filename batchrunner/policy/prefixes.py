"""The beginnings of a prompt that the API's cache can keep: where they end, what tells them apart, for how long they are kept.

The order is the API's: tools, system, messages. A `cache_control` on a block marks the prefix that ends with it; one at
the top level marks the last block. Source: the documentation of prompt caching, September 2026.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

#: What a body without a marker does not contain.
MARKER = "cache_control"
#: A request may mark so many blocks.
MOST_MARKS = 4
#: Seconds that an entry lives after it was last read, by the name of the lifetime.
LIFETIMES_S: Mapping[str, float] = {"5m": 300.0, "1h": 3600.0}
DEFAULT_LIFETIME = "5m"

#: Prefixes with fewer tokens are not kept, and nothing says so. What is not listed: the figure of most models.
_MINIMUM = 1024
_MINIMA = (
    (re.compile(r"claude-(fable-5|mythos-5|opus-5)(-\d{1,2})?"), 512),
    (re.compile(r"claude-opus-4-7"), 2048),
    (re.compile(r"claude-opus-4-[56]"), 4096),
    (re.compile(r"claude-haiku-\d+(-\d{1,2})?"), 4096),
)
_DATE = re.compile(r"-20\d{6}$")
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_KEY_BYTES = 8
_BETWEEN = "|"
_AFTER_ALL = "~"  # sorts behind everything that a path is made of


class Prefix(NamedTuple):
    """A prompt up to the end of one of its blocks."""

    key: str  #: Hash of the model and all blocks so far, whatever their markers.
    chars: int  #: Of those blocks as compact JSON, without their markers.
    lifetime: str | None  #: `5m` or `1h` if it is marked; otherwise None, or what the marker says in its place.


class Mark(NamedTuple):
    """A marked prefix of a request, as a run goes by it."""

    key: str
    chars: int
    lifetime_s: float


def path_of(params: Mapping[str, Any]) -> str | None:
    """Return the marked prefixes of *params* as text, shortest first; None if none can be kept.

    Sorted by it, requests that share a prefix stand together. What is surely too short for the model is left out: no
    text has more tokens than characters.
    """
    least = minimum_tokens(str(params.get("model")))
    marked = [p for p in prefixes(params) if p.lifetime in LIFETIMES_S and p.chars >= least]
    return _BETWEEN.join(f"{p.key}.{p.chars}.{p.lifetime}" for p in marked[:MOST_MARKS]) or None


@lru_cache(maxsize=1024)
def marks_of(path: str) -> tuple[Mark, ...]:
    """Return the marks that *path* stands for; none for an empty one."""
    if not path:
        return ()
    fields = (part.split(".") for part in path.split(_BETWEEN))
    return tuple(Mark(key, int(chars), LIFETIMES_S[lifetime]) for key, chars, lifetime in fields)


def group_of(path: str, key: str) -> tuple[str, str]:
    """Return the range of paths, from the first to below the second, that share *path*'s prefix with that *key*."""
    end = path.find(_BETWEEN, path.index(key))
    start = path if end < 0 else path[:end]
    return start, start + _AFTER_ALL


def minimum_tokens(model: str) -> int:
    """Return how many tokens a prefix must have for *model* to be kept."""
    name = _DATE.sub("", model)
    return next((tokens for pattern, tokens in _MINIMA if pattern.fullmatch(name)), _MINIMUM)


def prefixes(params: Mapping[str, Any]) -> list[Prefix]:
    """Return the prefixes of *params* (a request body, however malformed), shortest first: one for each block."""
    found: list[Prefix] = []
    digest = blake2b(str(params.get("model")).encode(errors="surrogatepass"), digest_size=_KEY_BYTES)
    chars, mark = 0, None
    for place, block in _blocks(params):
        mark = block.get(MARKER) if isinstance(block, dict) else None
        bare = {name: value for name, value in block.items() if name != MARKER} if mark is not None else block
        text = _ENCODER.encode(bare)
        digest.update(f"\0{place}\0{text}".encode(errors="surrogatepass"))
        chars += len(text)
        found.append(Prefix(digest.copy().hexdigest(), chars, _lifetime(mark)))
    if found and mark is None and (whole := params.get(MARKER)) is not None:
        found[-1] = found[-1]._replace(lifetime=_lifetime(whole))
    return found


def _blocks(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each block with the place that it has: what stands in another place is another prompt."""
    yield from (("tools", tool) for tool in _listed(params.get("tools")))
    yield from (("system", block) for block in _listed(params.get("system")))
    messages = params.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            role = f"message {message.get('role')}"
            yield from ((role, block) for block in _listed(message.get("content")))


def _listed(content: object) -> list[Any]:
    """Return *content* as a list of blocks: a text stands for one block of text."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if isinstance(content, str) and content else []


def _lifetime(mark: object) -> str | None:
    if mark is None:
        return None
    given = mark.get("ttl") if isinstance(mark, dict) else None
    return DEFAULT_LIFETIME if given is None else str(given)
