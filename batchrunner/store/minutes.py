"""Minute by minute: what each lane did, and what it waited for."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEEP = """INSERT INTO minutes
    (run_id, lane, endpoint, minute, sent, refused, failed, input_tokens, output_tokens, rpm, itpm, otpm, waited)
    VALUES (:run_id, :lane, :endpoint, :minute, :sent, :refused, :failed, :input_tokens, :output_tokens,
    :rpm, :itpm, :otpm, :waited)
    ON CONFLICT (run_id, lane, endpoint, minute) DO UPDATE SET sent = sent + excluded.sent, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    rpm = excluded.rpm, itpm = excluded.itpm, otpm = excluded.otpm, waited = excluded.waited"""
OF_RUN = "SELECT * FROM minutes WHERE run_id = :run_id ORDER BY lane, endpoint, minute"
HAS_MINUTES = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'minutes'"
# Attempts have no index by time or run, so this is asked only when a run was alive within the period. Several may have
# been, one after the other: Ctrl-C, resume, Ctrl-C, resume.
RECENT_SENDS = "SELECT lane, endpoint, started_at FROM attempts WHERE started_at >= :since ORDER BY started_at"
LAST_SIGN = "SELECT max(coalesce(ended_at, heartbeat_at)) FROM runs"

#: Which column says how much there was of what a reason limits, and which how much is permitted per minute.
_MEASURES = {
    "requests": ("sent", "rpm"),
    "input tokens": ("input_tokens", "itpm"),
    "output tokens": ("output_tokens", "otpm"),
}


@dataclass(frozen=True, slots=True, eq=False)
class MinuteKept:
    """What a lane did since this was last written, in the minute that it is written down under."""

    run_id: int
    lane: str
    minute: str  #: UTC stamp of the minute's beginning.
    figures: Mapping[str, Any]  #: sent, refused, failed, input_tokens, output_tokens, rpm, itpm, otpm.
    waited_s: Mapping[str, float]  #: Of the whole minute, by what for.
    endpoint: str = ""  #: Its name; empty: the only one of the run.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Add it to the minute's row."""
        waited = json.dumps({name: round(seconds, 3) for name, seconds in self.waited_s.items()})
        row = {"run_id": self.run_id, "lane": self.lane, "minute": self.minute, "waited": waited}
        cursor.execute(KEEP, {**self.figures, **row, "endpoint": self.endpoint})


#: A lane, and the name of the endpoint if it has one.
Pool = tuple[str, str | None]


def recent_sends(conn: sqlite3.Connection, since: str, *, alive_since: str) -> dict[Pool, list[str]]:
    """Return when earlier runs sent what they sent since the UTC stamp *since*, per lane and endpoint, in order.

    Reads every attempt, so only if a run has shown a sign of life since *alive_since*.
    """
    found: dict[Pool, list[str]] = {}
    last = conn.execute(LAST_SIGN).fetchone()[0]
    if last is None or last < alive_since:
        return found
    for lane, endpoint, started_at in conn.execute(RECENT_SENDS, {"since": since}):
        found.setdefault((lane, endpoint), []).append(started_at)
    return found


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What a lane of a run has waited for, and what mostly."""

    lane: str  #: With the endpoint, if it has a name.
    reason: str  #: What it waited for longest: `requests`, `output tokens`, `outage`, ...
    waited_s: dict[str, float]  #: In all, by what for, longest first.
    limit_per_minute: float | None  #: Of that reason; None where it is no limit, or none was known.
    used_share: float | None  #: How much of it was used in the latest full minute, 0 to 1.
    sent: int
    refused: int  #: 429s.


def held_back(conn: sqlite3.Connection, run_id: int) -> list[HeldBack]:
    """Return what the lanes of a run waited for, by lane; nothing of lanes that did not wait or of stores before version 2."""
    if not conn.execute(HAS_MINUTES).fetchone()[0]:
        return []
    lanes: dict[str, list[sqlite3.Row]] = {}
    for row in conn.execute(OF_RUN, {"run_id": run_id}):
        lane = f"{row['lane']} at {row['endpoint']}" if row["endpoint"] else row["lane"]
        lanes.setdefault(lane, []).append(row)
    found = (_held_back(lane, rows) for lane, rows in lanes.items())
    return [lane for lane in found if lane is not None]


def _held_back(lane: str, rows: list[sqlite3.Row]) -> HeldBack | None:
    waited_s: dict[str, float] = {}
    for row in rows:
        for reason, seconds in json.loads(row["waited"]).items():
            waited_s[reason] = waited_s.get(reason, 0.0) + seconds
    if not waited_s:
        return None
    ordered = dict(sorted(waited_s.items(), key=lambda item: -item[1]))
    reason = next(iter(ordered))
    latest = rows[-2] if len(rows) > 1 else rows[-1]  # the last one may have just begun
    used = per_minute = None
    if (measure := _MEASURES.get(reason)) is not None:
        used, per_minute = latest[measure[0]], latest[measure[1]]
    return HeldBack(
        lane=lane,
        reason=reason,
        waited_s={name: round(seconds, 3) for name, seconds in ordered.items()},
        limit_per_minute=per_minute,
        used_share=used / per_minute if used is not None and per_minute and len(rows) > 2 else None,
        sent=sum(row["sent"] for row in rows),
        refused=sum(row["refused"] for row in rows),
    )
