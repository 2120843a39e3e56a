"""Minute by minute: what each lane did, and what it waited for."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEEP = """INSERT INTO minutes
    (run_id, lane, minute, sent, refused, failed, input_tokens, output_tokens, rpm, itpm, otpm, waited)
    VALUES (:run_id, :lane, :minute, :sent, :refused, :failed, :input_tokens, :output_tokens, :rpm, :itpm, :otpm, :waited)
    ON CONFLICT (run_id, lane, minute) DO UPDATE SET sent = sent + excluded.sent, refused = refused + excluded.refused,
    failed = failed + excluded.failed, input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    rpm = excluded.rpm, itpm = excluded.itpm, otpm = excluded.otpm, waited = excluded.waited"""
OF_RUN = "SELECT * FROM minutes WHERE run_id = :run_id ORDER BY lane, minute"
# Attempts have no index by time or run, so this is asked only when a run was alive within the period. Several may have
# been, one after the other: Ctrl-C, resume, Ctrl-C, resume.
RECENT_SENDS = "SELECT lane, started_at FROM attempts WHERE started_at >= :since ORDER BY started_at"
LAST_SIGN = "SELECT max(coalesce(ended_at, heartbeat_at)) FROM runs"


@dataclass(frozen=True, slots=True, eq=False)
class MinuteKept:
    """What a lane did since this was last written, in the minute that it is written down under."""

    run_id: int
    lane: str
    minute: str  #: UTC stamp of the minute's beginning.
    figures: Mapping[str, Any]  #: sent, refused, failed, input_tokens, output_tokens, rpm, itpm, otpm.
    waited_s: Mapping[str, float]  #: Of the whole minute, by what for.

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Add it to the minute's row."""
        waited = json.dumps({name: round(seconds, 3) for name, seconds in self.waited_s.items()})
        row = {"run_id": self.run_id, "lane": self.lane, "minute": self.minute, "waited": waited}
        cursor.execute(KEEP, {**self.figures, **row})


def recent_sends(conn: sqlite3.Connection, since: str, *, alive_since: str) -> dict[str, list[str]]:
    """Return when earlier runs sent what they sent since the UTC stamp *since*, per lane, in order.

    Reads every attempt, so only if a run has shown a sign of life since *alive_since*.
    """
    found: dict[str, list[str]] = {}
    last = conn.execute(LAST_SIGN).fetchone()[0]
    if last is None or last < alive_since:
        return found
    for lane, started_at in conn.execute(RECENT_SENDS, {"since": since}):
        found.setdefault(lane, []).append(started_at)
    return found
