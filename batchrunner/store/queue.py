"""Claims: which requests are due. In flight is not a state, so a claim only reads.

The predicates of the partial indexes stand as literals in every statement: bound, SQLite would not see that the
index covers them, and would scan.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from batchrunner.model import Attempt, ErrorClass

#: One claim reads at most so many bytes of params, so that long prompts do not fill the memory.
CLAIM_BYTES = 16 * 1024 * 1024

# CROSS JOIN keeps the order of the loops: the index on requests outside, one look-up of the input inside.
# Only the fixed texts below are ever put in.
_CLAIM = """SELECT q.seq, q.custom_id, q.attempts, q.budget_from, q.error_class,
    i.params, i.max_tokens, i.stream, i.timeout_s,
    (SELECT json_group_array(json(patch)) FROM (SELECT patch FROM overrides WHERE seq = q.seq ORDER BY rowid)) AS patches
    FROM requests q CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.state = 'pending' AND q.line IS NOT NULL AND q.model_class = :model_class AND q.line <= :last_line
      AND {when} LIMIT :count"""
FRESH = _CLAIM.format(when="q.not_before IS NULL AND q.seq > :after ORDER BY q.seq")
DUE = _CLAIM.format(when="q.not_before IS NOT NULL AND q.not_before <= :now ORDER BY q.not_before")

NEXT_DUE = """SELECT not_before FROM requests
    WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL
      AND model_class = :model_class AND line <= :last_line
    ORDER BY not_before LIMIT 1"""

_NEXT_CLASS = """SELECT model_class FROM requests
    WHERE state = 'pending' AND not_before IS {} AND line IS NOT NULL AND model_class > :after
    ORDER BY model_class LIMIT 1"""
NEXT_FRESH_CLASS = _NEXT_CLASS.format("NULL")
NEXT_DUE_CLASS = _NEXT_CLASS.format("NOT NULL")

FAILURES = """SELECT error_class, count(*) FROM attempts
    WHERE seq = :seq AND number > :budget_from AND error_class IS NOT NULL GROUP BY error_class"""

LINE_AT = "SELECT line FROM requests WHERE line IS NOT NULL ORDER BY line LIMIT 1 OFFSET :offset"

_NO_LAST_LINE = 2**62


@dataclass(slots=True)
class Claimed:
    """Requests read for one lane, oldest first."""

    attempts: list[Attempt]
    exhausted: bool  #: No more of this kind now.


class Queue:
    """Reads due requests over a connection of its own. One caller at a time."""

    def __init__(self, conn: sqlite3.Connection, *, first: int | None = None) -> None:
        """Read from *conn*; with *first*, only requests among the first so many lines count."""
        self._conn = conn
        self._conn.row_factory = sqlite3.Row
        self.last_line = self._line_of(first) if first is not None else _NO_LAST_LINE

    def model_classes(self) -> list[str]:
        """Return the model classes with pending requests, by skipping through the indexes."""
        return sorted({*self._skip(NEXT_FRESH_CLASS), *self._skip(NEXT_DUE_CLASS)})

    def claim_fresh(self, model_class: str, after: int, count: int) -> Claimed:
        """Return up to *count* requests of *model_class* that wait for no instant, with `seq` above *after*."""
        return self._claim(FRESH, {"model_class": model_class, "after": after, "count": count}, count, ())

    def claim_due(self, model_class: str, now: str, count: int, in_hand: Collection[int]) -> Claimed:
        """Return up to *count* requests whose `not_before` is *now* (UTC stamp) or past, without those *in_hand*."""
        asked = count + len(in_hand)
        return self._claim(DUE, {"model_class": model_class, "now": now, "count": asked}, asked, in_hand)

    def next_due(self, model_class: str) -> str | None:
        """Return the UTC stamp of the earliest retry of *model_class*, or None."""
        row = self._conn.execute(NEXT_DUE, {"model_class": model_class, "last_line": self.last_line}).fetchone()
        return row[0] if row else None

    def _claim(self, sql: str, params: dict[str, Any], asked: int, in_hand: Collection[int]) -> Claimed:
        attempts: list[Attempt] = []
        read = size = 0
        cursor = self._conn.execute(sql, params | {"last_line": self.last_line})
        for row in cursor:
            read += 1
            if row["seq"] in in_hand:
                continue
            attempts.append(self._attempt(row, params["model_class"]))
            size += len(attempts[-1].params)
            if size > CLAIM_BYTES:
                cursor.close()
                return Claimed(attempts, exhausted=False)
        return Claimed(attempts, exhausted=read < asked)

    def _attempt(self, row: sqlite3.Row, model_class: str) -> Attempt:
        params, max_tokens, stream = row["params"], row["max_tokens"], bool(row["stream"])
        if row["patches"] != "[]":
            params, max_tokens, stream = _patched(params, row["patches"])
        return Attempt(
            seq=row["seq"],
            number=row["attempts"] + 1,
            custom_id=row["custom_id"],
            lane=model_class,
            params=params,
            max_tokens=max_tokens,
            # A non-streamed answer shows no sign of life until it is finished; after a time-out we want signs.
            stream=stream or row["error_class"] == ErrorClass.TIMEOUT,
            timeout_s=row["timeout_s"],
            failures=self._failures(row) if row["attempts"] > row["budget_from"] else {},
        )

    def _failures(self, row: sqlite3.Row) -> dict[ErrorClass, int]:
        counts = self._conn.execute(FAILURES, {"seq": row["seq"], "budget_from": row["budget_from"]})
        return {ErrorClass(name): count for name, count in counts}

    def _skip(self, sql: str) -> Iterator[str]:
        after = ""
        while row := self._conn.execute(sql, {"after": after}).fetchone():
            after = row[0]
            yield after

    def _line_of(self, first: int) -> int:
        row = self._conn.execute(LINE_AT, {"offset": first - 1}).fetchone() if first > 0 else (0,)
        return int(row[0]) if row else _NO_LAST_LINE


def _patched(params: str, patches: str) -> tuple[str, int, bool]:
    body = json.loads(params)
    for patch in json.loads(patches):
        body.update(patch)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text, int(body["max_tokens"]), bool(body.get("stream"))
