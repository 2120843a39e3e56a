"""Many rows that fail in twelve ways, by chance and by markers; what `errors` says of them, and what its commands mend.

The simulator's ledger is the witness: what arrived, and what it was given.

python tests/mending.py [ROWS]     default 10,000; prints a line per command
"""

import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.simulator.answers import body_sha256
from batchrunner.store.queue import patched
from running import MODEL, WatchedLedger, command, rows, simulator_thread
from store_helpers import report

#: By chance, for every arrival of a row that has no script.
SPEC = "latency=0.002..0.01,500=0.04,529=0.03"
#: Every failure counts at once, so that a command sends each of its requests once.
OPTIONS = ("--progress", "none", "--rpm", "1000000", "--burst", "-j", "60", *(
    word for name in ("server", "overloaded", "network", "timeout", "bad_response", "empty") for word in ("--retries", f"{name}=0")
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One way for a row to fail, and what a user can do about it."""

    error_class: str
    says: str  #: Part of the message.
    action: str  #: What the ledger calls it.
    mark: str = ""  #: At the beginning of the prompt; a corrected line does without.
    params: tuple[tuple[str, Any], ...] = ()
    mendable: bool = True  #: By the command that `errors` gives, after correcting the line where it says so.


KINDS: Mapping[str, Kind] = {
    "wrong": Kind("invalid", "Input should be a valid list", "400", "[[sim:400]] "),
    "sampling": Kind("invalid", "temperature: not supported", "rejected", params=(("temperature", 0.5),)),
    "too long answers": Kind("invalid", "max_tokens: 999999 >", "rejected", params=(("max_tokens", 999_999),)),
    "malformed": Kind("invalid", "field is malformed", "gateway_detail", "[[sim:gateway_detail]] "),
    "too large": Kind("too_large", "413", "413", "[[sim:413]] "),
    "truncated": Kind("truncated", "max_tokens", "answered", "[[sim:long=300]] "),
    "refused": Kind("refused", "declined", "answered", "[[sim:refusal]] "),
    "empty": Kind("empty", "no content", "answered", "[[sim:empty]] ", mendable=False),
    "web page": Kind("bad_response", "a web page", "200_html", "[[sim:200_html*1]] "),
    "reset": Kind("network", "", "reset", "[[sim:reset*1]] "),
}
#: The two that come by chance.
BY_CHANCE: Mapping[str, Kind] = {
    "server": Kind("server", "Internal server error", "500"),
    "overloaded": Kind("overloaded", "Overloaded", "529"),
}
_EVERY = 25  # of so many rows, one of each kind; the others are good


class Mending:
    """A job file with its failures, a simulator, and the commands between them."""

    def __init__(self, folder: Path, count: int, url: str, ledger: WatchedLedger) -> None:
        self.folder, self.url, self.ledger = folder, url, ledger
        self.path = folder / "jobs.jsonl"
        names = [*KINDS, *[""] * (_EVERY - len(KINDS))]
        self.kinds = {f"r{n}": names[n * 7 % _EVERY] for n in range(count)}
        self.corrected: set[str] = set()
        self.write()

    @property
    def store(self) -> Path:
        return self.path.with_suffix(".db")

    def write(self) -> None:
        """Write the job file: lines that were corrected are without their fault."""
        self.path.write_text("".join(json.dumps(self.line(name)) + "\n" for name in self.kinds))

    def line(self, custom_id: str) -> dict[str, Any]:
        kind = KINDS.get(self.kinds[custom_id])
        if kind is None or custom_id in self.corrected:
            return {"id": custom_id, "prompt": f"Say {custom_id}."}
        return {"id": custom_id, "prompt": f"{kind.mark}Say {custom_id}.", **dict(kind.params)}

    def run(self) -> None:
        """Send everything for the first time."""
        words = ("run", "jobs.jsonl", "--model", MODEL, "--max-tokens", "100", *OPTIONS)
        done = command(*words, url=self.url, cwd=self.folder)
        assert done.code == 1, done.stderr

    def bodies(self) -> dict[str, str]:
        """Return which request each body belongs to, as it would be sent now."""
        sql = """SELECT custom_id, params,
                (SELECT json_group_array(json(patch)) FROM overrides o WHERE o.seq = q.seq)
            FROM requests q JOIN inputs i USING (seq)"""
        return {
            body_sha256((patched(params, patches)[0] if patches != "[]" else params).encode()): custom_id
            for custom_id, params, patches in rows(self.store, sql)
        }

    def sent_since(self, arrivals: int) -> Counter[str]:
        """Return how often each request arrived since the ledger had so many *arrivals*."""
        whose = self.bodies()
        return Counter(whose[arrival.body] for arrival in self.ledger.seen[arrivals:])

    def expected(self) -> Counter[tuple[str, str]]:
        """Return how many requests stand failed by the ledger: class and part of the message, by what each met last."""
        last = {arrival.body: arrival.action for arrival in self.ledger.seen}
        met = ((custom_id, last[body]) for body, custom_id in self.bodies().items())
        return Counter(
            (kind.error_class, kind.says) for custom_id, action in met if (kind := self._kind(custom_id, action))
        )

    def _kind(self, custom_id: str, action: str) -> Kind | None:
        for kind in BY_CHANCE.values():
            if kind.action == action:
                return kind
        own = None if custom_id in self.corrected else KINDS.get(self.kinds[custom_id])
        return own if own is not None and own.action == action and self._still_wrong(own, custom_id) else None

    def _still_wrong(self, kind: Kind, custom_id: str) -> bool:
        """A change by `retry --set` mends what would be answered in the same words to the ledger."""
        if kind.error_class != "truncated":
            return True
        sql = "SELECT count(*) FROM overrides JOIN requests USING (seq) WHERE custom_id = ?"
        return rows(self.store, sql, custom_id) == [(0,)]

    def groups(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = report("errors", self.path)["groups"]
        return found

    def ids_of(self, group: Mapping[str, Any]) -> set[str]:
        """Return every request of *group*, as `errors --rows` lists them."""
        listed = report("errors", self.path, "--signature", group["key"], "--rows")["rows"]
        return {row["custom_id"] for row in listed}

    def mend(self, group: Mapping[str, Any]) -> Counter[str]:
        """Do what `errors` says of *group*: correct its lines if it says so, type its command; returns what was sent."""
        _, verb, *words = shlex.split(group["command"])
        if verb == "run":
            self.corrected |= self.ids_of(group)
            self.write()
        before = len(self.ledger.seen)
        done = command(verb, *words, *OPTIONS, url=self.url, cwd=self.folder)
        assert done.code in {0, 1}, done.stderr
        return self.sent_since(before)


def as_expected(groups: Iterable[Mapping[str, Any]], expected: Counter[tuple[str, str]]) -> bool:
    """Whether *groups* are just those that are *expected*, each with its number."""
    found: Counter[tuple[str, str]] = Counter()
    for group in groups:
        names = [name for name in expected if name[0] == group["error_class"] and name[1] in group["message"]]
        assert len(names) == 1, (group, names)
        found[names[0]] += group["count"]
    return found == expected


def rounds(mending: Mending) -> Iterator[tuple[Mapping[str, Any], set[str], Counter[str]]]:
    """Mend group by group until only what cannot be mended is left; yields each with its ids and what was sent."""
    hopeless = {kind.error_class for kind in KINDS.values() if not kind.mendable}
    tried: set[str] = set()
    while left := [g for g in mending.groups() if g["error_class"] not in hopeless or g["key"] not in tried]:
        group = left[0]
        tried.add(group["key"])
        ids = mending.ids_of(group)
        yield group, ids, mending.mend(group)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, simulator_thread(SPEC) as (url, ledger):
        mending = Mending(Path(folder), count, url, ledger)
        began = time.monotonic()
        mending.run()
        assert as_expected(mending.groups(), mending.expected())
        failed = sum(mending.expected().values())
        say(f"{count:,} rows, {failed:,} failed in {len(mending.groups())} groups, as the ledger has it")
        for group, ids, sent in rounds(mending):
            exactly = sent == Counter(ids)
            assert as_expected(mending.groups(), mending.expected())
            say(f"{len(ids):6,} {group['error_class']:<13} sent {sum(sent.values()):6,} {exactly}  {group['command']}")
        left = [(group["error_class"], group["count"]) for group in mending.groups()]
        say(f"left: {left}; {len(ledger.seen):,} arrivals, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
