"""One request whole, as `show` shows it, and the ids that are like one that does not exist."""

import difflib
import itertools
import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from batchrunner.store.overlay import laid_over
from batchrunner.store.received import received

_REQUEST = """SELECT q.seq, q.custom_id, q.line, q.state, q.error_class, q.error_message, q.not_before, q.finished_at,
        i.params, i.metadata, i.timeout_s
    FROM requests q JOIN inputs i ON i.seq = q.seq WHERE q.custom_id = ?"""
HAS_TWINS = "SELECT count(*) FROM pragma_table_info('requests') WHERE name = 'answered_by'"  # from the fifth schema on
_TWIN = "SELECT o.custom_id FROM requests q CROSS JOIN requests o ON o.seq = q.answered_by WHERE q.seq = ?"
_OVERRIDES = "SELECT created_at, patch FROM overrides WHERE seq = ? ORDER BY rowid"
# Whatever columns there are: a store of an earlier schema is read as it is.
_ATTEMPTS = """SELECT a.*, round((julianday(a.ended_at) - julianday(a.started_at)) * 86400, 3) AS duration_s
    FROM attempts a WHERE a.seq = ? ORDER BY a.number"""
_ANSWERS = "SELECT number, accepted, stop_reason, model, text, message FROM results WHERE seq = ? ORDER BY number"

# An id with one slip has its first or its second half right. The limits keep a million ids that are all alike from
# being compared one by one.
_LIKE = """SELECT custom_id FROM requests
    WHERE abs(length(custom_id) - :size) <= 2 AND (substr(custom_id, 1, :half) = :head) LIMIT 5000"""
_ENDS_LIKE = """SELECT custom_id FROM requests
    WHERE abs(length(custom_id) - :size) <= 2 AND substr(custom_id, -:rest) = :tail LIMIT 5000"""
_CONTAINS = "SELECT custom_id FROM requests WHERE instr(lower(custom_id), lower(:id)) LIMIT 50"
_BEFORE = "SELECT custom_id FROM requests WHERE custom_id < :id ORDER BY custom_id DESC LIMIT 20"
_AFTER = "SELECT custom_id FROM requests WHERE custom_id > :id ORDER BY custom_id LIMIT 20"
_AT_LINE = "SELECT custom_id FROM requests WHERE line IS NOT NULL AND line = :line"


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt of a request."""

    number: int
    run_id: int
    lane: str
    started_at: str
    ended_at: str | None  #: None: in flight, or possibly paid and never answered.
    outcome: str | None
    error_class: str | None
    http_status: int | None
    api_request_id: str | None
    message: str | None  #: Of the error, and the beginning of a body that was no message.
    possibly_paid: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    cost_usd: float | None
    duration_s: float | None
    endpoint: str | None = None  #: Its name; None: the only one of its run, or a store of the first schema.


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is kept."""

    number: int  #: Of its attempt.
    accepted: bool
    stop_reason: str
    model: str
    text: str
    message: Any  #: The answer as received.


@dataclass(frozen=True, slots=True)
class Detail:
    """All that the store knows of one request."""

    custom_id: str
    line: int | None  #: None: no line of the latest input any more.
    state: str
    error_class: str | None
    error_message: str | None
    not_before: str | None
    finished_at: str | None
    params: Any  #: As the next attempt would send them, or the latest did: the changes laid over.
    overrides: list[dict[str, Any]]  #: The changes: `created_at`, `patch`.
    metadata: Any
    timeout_s: float | None
    attempts: list[Attempted]
    answers: list[Answer]
    deduplicated_of: str | None = None  #: The identical request that is sent, or was, in its place (`--dedupe`).


def find_detail(conn: sqlite3.Connection, custom_id: str) -> Detail | None:
    """Return the request *custom_id*, or None if there is none."""
    row = conn.execute(_REQUEST, (custom_id,)).fetchone()
    if row is None:
        return None
    facts = dict(row)
    seq = facts.pop("seq")
    params = json.loads(facts.pop("params"))
    overrides = [
        {**change, "patch": json.loads(change["patch"])} for change in map(dict, conn.execute(_OVERRIDES, (seq,)))
    ]
    params = laid_over(params, [change["patch"] for change in overrides])
    return Detail(
        **facts | {"metadata": json.loads(facts["metadata"] or "null")},
        params=params,
        overrides=overrides,
        attempts=[_attempted(dict(row)) for row in conn.execute(_ATTEMPTS, (seq,))],
        answers=[
            Answer(**{**row, "accepted": bool(row["accepted"]), "message": received(row["message"])})
            for row in conn.execute(_ANSWERS, (seq,))
        ],
        deduplicated_of=_twin(conn, seq),
    )


def _twin(conn: sqlite3.Connection, seq: int) -> str | None:
    if not conn.execute(HAS_TWINS).fetchone()[0]:
        return None
    row = conn.execute(_TWIN, (seq,)).fetchone()
    return None if row is None else str(row[0])


def _attempted(row: dict[str, Any]) -> Attempted:
    known = {name: value for name, value in row.items() if name in Attempted.__dataclass_fields__}
    return Attempted(**known | {"possibly_paid": bool(row["possibly_paid"])})


def similar_ids(conn: sqlite3.Connection, wanted: str, *, count: int = 3) -> list[str]:
    """Return at most *count* ids that are most like *wanted*, which none has; the best first."""
    half = max(1, len(wanted) // 2)
    names = {
        "id": wanted,
        "size": len(wanted),
        "half": half,
        "head": wanted[:half],
        "rest": max(1, len(wanted) - half),
        "tail": wanted[half:] or wanted,
    }
    found: dict[str, None] = {}
    for sql in (_CONTAINS, _LIKE, _ENDS_LIKE, _BEFORE, _AFTER):
        found |= dict.fromkeys(custom_id for (custom_id,) in conn.execute(sql, names))
    close = difflib.get_close_matches(wanted, found, n=50, cutoff=0.5)
    return sorted(close, key=lambda custom_id: _likeness(wanted, custom_id), reverse=True)[:count]


def _likeness(wanted: str, custom_id: str) -> tuple[float, int]:
    # Among ids that are as much alike, the one that begins like the one wanted.
    ratio = difflib.SequenceMatcher(None, wanted, custom_id).ratio()
    pairs = zip(wanted, custom_id, strict=False)
    return ratio, sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def id_at_line(conn: sqlite3.Connection, line: str) -> str | None:
    """Return the id of the request on *line* of the input, if that is a number and there is one."""
    if not (line.isascii() and line.isdecimal() and len(line) < 16):
        return None
    row = conn.execute(_AT_LINE, {"line": int(line)}).fetchone()
    return str(row[0]) if row else None
