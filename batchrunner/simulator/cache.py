"""The prompt cache: what a request reads of it and writes to it, when an entry can be read, and how long it lives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.policy.prefixes import LIFETIMES_S, Prefix, minimum_tokens, prefixes

CHARS_PER_TOKEN = 4
#: Before each marked block so many are tried for an entry that an earlier request has left.
_LOOK_BACK = 20
_SWEEP_FROM = 1024


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Input tokens of one request that went through the cache; the rest of its input did not."""

    read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def written(self) -> int:
        """Tokens written, for whatever time."""
        return self.write_5m + self.write_1h


NO_USE = CacheUse()


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a request would read and write; nothing is noted before `PromptCache.use`."""

    use: CacheUse = NO_USE
    reads: tuple[str, ...] = ()  #: Keys of the entries that are read.
    writes: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class _Entry:
    readable_from: float
    expires_at: float
    lifetime_s: float


class PromptCache:
    """The entries of an organisation. Instants must not go back.

    An entry is readable once the answer that writes it has begun, and until its lifetime after that has passed without
    a read. Where several requests meet a prefix that is not readable yet, each writes it and pays for it.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._sweep_at = _SWEEP_FROM

    def look(self, params: Mapping[str, Any], now: float) -> Lookup:
        """Return what *params*, a valid request, would read and write at *now*."""
        blocks = prefixes(params)
        least = minimum_tokens(str(params.get("model")))
        marked = [
            place for place, prefix in enumerate(blocks) if prefix.lifetime in LIFETIMES_S and _tokens(prefix) >= least
        ]
        if not marked:
            return Lookup()
        hit = self._longest(blocks, marked, now)
        reads = tuple(blocks[place].key for place in {*marked, hit} if place <= hit)
        writes = tuple(blocks[place] for place in marked if place > hit)
        read = _tokens(blocks[hit]) if hit >= 0 else 0
        written = dict.fromkeys(LIFETIMES_S, 0)
        before = read
        for prefix in writes:
            written[str(prefix.lifetime)] += _tokens(prefix) - before
            before = _tokens(prefix)
        return Lookup(CacheUse(read, written["5m"], written["1h"]), reads, writes)

    def use(self, lookup: Lookup, now: float, begins_at: float, *, is_answered: bool = True) -> None:
        """Note a request that was let in at *now*, whose answer begins at *begins_at*; without an answer it only reads."""
        for key in lookup.reads:
            if (entry := self._entries.get(key)) is not None:
                entry.expires_at = max(entry.expires_at, now + entry.lifetime_s)
        if not is_answered:
            return
        self._sweep(now)
        for prefix in lookup.writes:
            lifetime_s = LIFETIMES_S[str(prefix.lifetime)]
            entry = self._entries.get(prefix.key)
            if entry is None or entry.expires_at <= now:
                self._entries[prefix.key] = _Entry(begins_at, begins_at + lifetime_s, lifetime_s)
            else:  # another is writing it already
                entry.readable_from = min(entry.readable_from, begins_at)
                entry.lifetime_s = max(entry.lifetime_s, lifetime_s)
                entry.expires_at = max(entry.expires_at, begins_at + lifetime_s)

    def _longest(self, blocks: list[Prefix], marked: list[int], now: float) -> int:
        """Return the place of the longest prefix that can be read; -1: none."""
        for place in reversed(marked):
            for candidate in range(place, max(-1, place - _LOOK_BACK), -1):
                entry = self._entries.get(blocks[candidate].key)
                if entry is not None and entry.readable_from <= now < entry.expires_at:
                    return candidate
        return -1

    def _sweep(self, now: float) -> None:
        """Forget what has expired, now and then."""
        if len(self._entries) < self._sweep_at:
            return
        self._entries = {key: entry for key, entry in self._entries.items() if entry.expires_at > now}
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._entries))


def _tokens(prefix: Prefix) -> int:
    return prefix.chars // CHARS_PER_TOKEN
