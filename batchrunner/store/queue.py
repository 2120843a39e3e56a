"""Claims: which requests are due. In flight is not a state, so a claim only reads.

The predicates of the partial indexes stand as literals in every statement: bound, SQLite would not see that the
index covers them, and would scan.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.model import Attempt, ErrorClass
from batchrunner.policy.courses import Span
from batchrunner.policy.prefixes import MARKER, path_of
from batchrunner.policy.sampling import Sampling
from batchrunner.store.chosen import CLASSES as CHOSEN_CLASSES
from batchrunner.store.chosen import TOTALS as CHOSEN_TOTALS
from batchrunner.store.chosen import choose
from batchrunner.store.overlay import laid_over
from batchrunner.store.selection import Totals, totals

#: One claim reads at most so many bytes of params, so that long prompts do not fill the memory.
CLAIM_BYTES = 16 * 1024 * 1024

# CROSS JOIN keeps the order of the loops: the index on requests outside, one look-up of the input inside.
# Only the fixed texts below are ever put in.
_CLAIM = """SELECT q.seq, {place} AS place, q.custom_id, q.attempts, q.budget_from, q.error_class, q.prefix,
    i.params, i.max_tokens, i.stream, i.timeout_s,
    (SELECT json_group_array(json(patch)) FROM (SELECT patch FROM overrides WHERE seq = q.seq ORDER BY rowid)) AS patches,
    EXISTS (SELECT 1 FROM requests d WHERE d.state = 'pending' AND d.answered_by IS NOT NULL AND d.answered_by = q.seq)
        AS answers_others
    FROM {source} CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.state = 'pending' AND q.line IS NOT NULL AND q.batch_id IS NULL AND q.line <= :last_line
    AND q.answered_by IS NULL AND {when} LIMIT :count"""
_ALL = "requests q"
_FRESH = "q.model_class = :model_class AND q.not_before IS NULL AND {place} > :after ORDER BY {place}"
_DUE = (
    "q.model_class = :model_class AND q.not_before IS NOT NULL AND q.not_before <= :now{chosen} ORDER BY q.not_before"
)
_PLAIN = "q.model_class = :model_class AND q.not_before IS NULL AND q.prefix IS NULL AND q.seq > :after ORDER BY q.seq"
_SPAN = """q.model_class = :model_class AND q.not_before IS NULL AND q.prefix >= :path AND q.prefix < :upto
    AND (q.prefix, q.seq) > (:path, :after) ORDER BY q.prefix, q.seq"""
FRESH = _CLAIM.format(place="q.seq", source=_ALL, when=_PLAIN)
FRESH_SPAN = _CLAIM.format(place="q.seq", source=_ALL, when=_SPAN)
DUE = _CLAIM.format(place="q.seq", source=_ALL, when=_DUE.format(chosen=""))

_NEXT_DUE = """SELECT q.seq, q.not_before FROM requests q
    WHERE q.state = 'pending' AND q.not_before IS NOT NULL AND q.line IS NOT NULL
      AND q.model_class = :model_class AND q.batch_id IS NULL AND q.line <= :last_line{chosen}
    ORDER BY q.not_before"""
NEXT_DUE = _NEXT_DUE.format(chosen="")

# The same for a run that chose among the requests (store/chosen.py): fresh ones along the table of what is chosen, by
# place; retries along their own index, each looked up there.
_IS_CHOSEN = " AND EXISTS (SELECT 1 FROM temp.chosen c WHERE c.seq = q.seq)"
_CHOSEN_FRESH = "c.model_class = :model_class AND q.not_before IS NULL AND c.place > :after ORDER BY c.place"
FRESH_CHOSEN = _CLAIM.format(
    place="c.place", source="temp.chosen c CROSS JOIN requests q ON q.seq = c.seq", when=_CHOSEN_FRESH
)
DUE_CHOSEN = _CLAIM.format(place="q.seq", source=_ALL, when=_DUE.format(chosen=_IS_CHOSEN))
NEXT_DUE_CHOSEN = _NEXT_DUE.format(chosen=_IS_CHOSEN)

_NEXT_CLASS = """SELECT model_class FROM requests
    WHERE state = 'pending' AND not_before IS {} AND line IS NOT NULL AND model_class > :after
    ORDER BY model_class LIMIT 1"""
NEXT_FRESH_CLASS = _NEXT_CLASS.format("NULL")
NEXT_DUE_CLASS = _NEXT_CLASS.format("NOT NULL")

FAILURES = """SELECT error_class FROM attempts
    WHERE seq = :seq AND number > :budget_from AND error_class IS NOT NULL AND counted = 1"""

# Rows of a batch, by the index of what sits in one.
RECALL = """SELECT q.seq, q.seq AS place, q.custom_id, q.attempts, q.budget_from, q.error_class, q.model_class, q.prefix,
    i.params, i.max_tokens, i.stream, i.timeout_s,
    (SELECT json_group_array(json(patch)) FROM (SELECT patch FROM overrides WHERE seq = q.seq ORDER BY rowid)) AS patches,
    EXISTS (SELECT 1 FROM requests d WHERE d.state = 'pending' AND d.answered_by IS NOT NULL AND d.answered_by = q.seq)
        AS answers_others
    FROM json_each(:seqs) given CROSS JOIN requests q ON q.seq = given.value CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.batch_id = :batch AND q.state = 'pending'"""

LINE_AT = "SELECT line FROM requests WHERE line IS NOT NULL ORDER BY line LIMIT 1 OFFSET :offset"

_NO_LAST_LINE = 2**62


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a lane stands in its queue: what it asks for."""

    model_class: str
    after: int  #: The place of the last fresh request it was given: its `seq`, or where it stands among the chosen.
    now: str  #: UTC stamp: retries with a `not_before` up to here are due.
    in_hand: frozenset[int] = frozenset()  #: `seq` of what it holds or has in flight: not to be given again.
    fresh: bool = True  #: False once the fresh requests are used up.
    count: int = 500
    span: Span | None = None  #: Fresh ones of this span; None: those without marked prefixes, `after`.


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a lane gets: due retries first, then fresh requests."""

    attempts: list[Attempt]
    retries: int  #: So many of them, from the first, are due retries.
    after: int
    fresh: bool  #: There may be more fresh requests, of the span or without marked prefixes.
    next_due: str | None  #: UTC stamp of the earliest retry that was not given out.
    path: str = ""  #: Of the last fresh request, where a span was asked for.

    @property
    def has_marks(self) -> bool:
        """Whether any of it has marked prefixes."""
        return any(attempt.prefix is not None for attempt in self.attempts)


class Queue:
    """Reads due requests over a connection of its own. One caller at a time."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        *,
        first: int | None = None,
        timeout_s: float | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Read from *conn*; with *first*, only requests among the first so many lines count.

        *timeout_s*: the total deadline of attempts whose line sets none. *sampling*: what of the requests is worked on;
        raises `UsageError` for ids that there are not.
        """
        self._conn = conn
        self._timeout_s = timeout_s
        self.last_line = self._line_of(first) if first is not None else _NO_LAST_LINE
        self._fresh_sql, self._due_sql, self._next_due_sql = FRESH, DUE, NEXT_DUE
        self._chooses = sampling is not None and sampling.chooses
        if sampling is not None and sampling.chooses:
            choose(conn, sampling, self.last_line)
            self._fresh_sql, self._due_sql, self._next_due_sql = FRESH_CHOSEN, DUE_CHOSEN, NEXT_DUE_CHOSEN

    def totals(self) -> Totals:
        """Return the totals of the requests this queue is about."""
        if self._chooses:
            return Totals(*self._conn.execute(CHOSEN_TOTALS).fetchone())
        return totals(self._conn, self.last_line)

    def model_classes(self) -> list[str]:
        """Return the model classes with pending requests, by skipping through the indexes."""
        classes = {*self._skip(NEXT_FRESH_CLASS), *self._skip(NEXT_DUE_CLASS)}
        if self._chooses:
            classes &= {name for (name,) in self._conn.execute(CHOSEN_CLASSES)}
        return sorted(classes)

    def claim(self, claim: Claim) -> Claimed:
        """Return what is due for a lane, at most `claim.count` requests or `CLAIM_BYTES`."""
        given = self._due(claim)
        retries = len(given)
        path, after = ("", claim.after) if claim.span is None else claim.span[:2]
        fresh = claim.fresh
        if fresh and len(given) < claim.count:
            asked = claim.count - len(given)
            found, last, last_path = self._fresh(claim, asked)
            more = [attempt for attempt in found if attempt.seq not in claim.in_hand]
            fresh = len(found) == asked or _size(found) > CLAIM_BYTES
            if found:
                path, after = last_path if claim.span else "", last
            given += more
        held = claim.in_hand.union(attempt.seq for attempt in given)
        return Claimed(given, retries, after, fresh, self._next_due(claim.model_class, held), path)

    def _fresh(self, claim: Claim, count: int) -> tuple[list[Attempt], int, str]:
        if claim.span is None:
            return self._read(self._fresh_sql, claim, {"after": claim.after, "count": count})
        if self._chooses:  # what is chosen comes in the order of the choice, marked or not
            return [], 0, ""
        return self._read(FRESH_SPAN, claim, {**claim.span._asdict(), "count": count})

    def recall(self, batch: int, seqs: Collection[int]) -> list[Attempt]:
        """Return those of *seqs* that sit in the batch of that id in the store, as the attempts they are there."""
        cursor = self._conn.cursor()
        cursor.row_factory = sqlite3.Row
        cursor.execute(RECALL, {"batch": batch, "seqs": json.dumps(list(seqs))})
        return [self._attempt(row, row["model_class"]) for row in cursor]

    def _due(self, claim: Claim) -> list[Attempt]:
        asked = claim.count + len(claim.in_hand)  # those in hand may stand first in the index
        found, *_ = self._read(self._due_sql, claim, {"now": claim.now, "count": asked}, skip=claim.in_hand)
        return found[: claim.count]

    def _next_due(self, model_class: str, held: Collection[int]) -> str | None:
        rows = self._conn.execute(self._next_due_sql, {"model_class": model_class, "last_line": self.last_line})
        return next((not_before for seq, not_before in rows if seq not in held), None)

    def _read(
        self, sql: str, claim: Claim, params: dict[str, Any], *, skip: Collection[int] = frozenset()
    ) -> tuple[list[Attempt], int, str]:
        """Return what *sql* finds, and place and path of its last row."""
        cursor = self._conn.cursor()
        cursor.row_factory = sqlite3.Row
        cursor.execute(sql, {"model_class": claim.model_class, "last_line": self.last_line, **params})
        attempts: list[Attempt] = []
        size, place, path = 0, 0, ""
        for row in cursor:
            if row["seq"] in skip:
                continue
            attempts.append(self._attempt(row, claim.model_class))
            size += len(attempts[-1].params)
            place, path = row["place"], row["prefix"] or ""
            if size > CLAIM_BYTES:
                cursor.close()
                break
        return attempts, place, path

    def _attempt(self, row: sqlite3.Row, model_class: str) -> Attempt:
        params, max_tokens, stream, prefix = row["params"], row["max_tokens"], bool(row["stream"]), row["prefix"]
        if row["patches"] != "[]":
            params, max_tokens, stream = patched(params, row["patches"])
            prefix = None
        if prefix is None and MARKER in params:  # changed since it was read in, or read in before prefixes were
            prefix = path_of(json.loads(params))
        return Attempt(
            seq=row["seq"],
            number=row["attempts"] + 1,
            custom_id=row["custom_id"],
            lane=model_class,
            params=params,
            max_tokens=max_tokens,
            # A non-streamed answer shows no sign of life until it is finished; after a time-out we want signs.
            stream=stream or row["error_class"] == ErrorClass.TIMEOUT,
            timeout_s=self._timeout_s if row["timeout_s"] is None else row["timeout_s"],
            failures=self._failures(row) if row["attempts"] > row["budget_from"] else {},
            prefix=prefix,
            answers_others=bool(row["answers_others"]),
        )

    def _failures(self, row: sqlite3.Row) -> Mapping[ErrorClass, int]:
        found = self._conn.execute(FAILURES, {"seq": row["seq"], "budget_from": row["budget_from"]})
        return Counter(ErrorClass(name) for (name,) in found)

    def _skip(self, sql: str) -> Iterator[str]:
        after = ""
        while row := self._conn.execute(sql, {"after": after}).fetchone():
            after = row[0]
            yield after

    def _line_of(self, first: int) -> int:
        row = self._conn.execute(LINE_AT, {"offset": first - 1}).fetchone() if first > 0 else (0,)
        return int(row[0]) if row else _NO_LAST_LINE


def patched(params: str, patches: str) -> tuple[str, int, bool]:
    """Return *params* with *patches* (JSON array of objects) laid over, and its `max_tokens` and `stream`."""
    body = laid_over(json.loads(params), json.loads(patches))
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text, int(body["max_tokens"]), bool(body.get("stream"))


def _size(attempts: list[Attempt]) -> int:
    return sum(len(attempt.params) for attempt in attempts)
