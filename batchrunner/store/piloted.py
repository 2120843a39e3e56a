"""What a pilot has shown, read from the store: the sample with its attempts, the rest, the limits that were met."""

import random
import sqlite3

from batchrunner.policy.projection import Drawn, Pace, Rest
from batchrunner.store.sharing import SENT

#: So many random requests tell how long the rest is on the average.
_LENGTHS = 2000

_DRAWN = """SELECT length(i.params),
        CASE WHEN sum(a.cost_usd IS NULL AND (a.possible_usd IS NULL OR a.output_tokens IS NOT NULL)) = 0
             THEN total(coalesce(a.cost_usd, a.possible_usd)) END,
        total(a.input_tokens) + total(a.cache_write_tokens), total(a.output_tokens),
        max(0.0, max((julianday(a.ended_at) - julianday(a.started_at)) * 86400)),
        q.state = 'failed',
        EXISTS (SELECT 1 FROM results r WHERE r.seq = q.seq AND r.stop_reason = 'max_tokens'),
        q.model_class
    FROM temp.chosen c CROSS JOIN requests q ON q.seq = c.seq CROSS JOIN inputs i ON i.seq = c.seq
    JOIN attempts a ON a.seq = c.seq
    WHERE q.state <> 'pending' AND a.ended_at IS NOT NULL GROUP BY c.seq"""
_REST = """SELECT model_class, count(*) FROM requests
    WHERE state = 'pending' AND line IS NOT NULL AND line <= ? GROUP BY model_class"""
_REST_CHOSEN = """SELECT q.model_class, count(*) FROM temp.chosen c CROSS JOIN requests q ON q.seq = c.seq
    WHERE q.state = 'pending' GROUP BY q.model_class"""
# Of identical requests none is sent if one is answered, and else one.
_REST_ONCE = f"""SELECT model_class, count(*) FROM (
        SELECT model_class, sum(state = 'pending') AS pending, total(state = 'succeeded') AS answered
        FROM (SELECT model_class, state, {SENT} AS sent FROM requests q
              WHERE state <> 'failed' AND (line <= ? OR line IS NULL AND state = 'succeeded'))
        GROUP BY sent)
    WHERE NOT answered AND pending GROUP BY model_class"""  # noqa: S608 - a fixed text
_LENGTH = "SELECT length(params) FROM inputs WHERE seq = ?"
_LENGTHS_CHOSEN = "SELECT length(i.params) FROM temp.chosen c JOIN inputs i ON i.seq = c.seq LIMIT ?"
_LAST_SEQ = "SELECT max(seq) FROM inputs"
_PACES = """SELECT lane, min(rpm), min(itpm), min(otpm) FROM minutes
    WHERE run_id = (SELECT max(run_id) FROM minutes) GROUP BY lane"""


def drawn(conn: sqlite3.Connection) -> list[Drawn]:
    """Return what became of the requests of `temp.chosen` that are final."""
    return [
        Drawn(chars, cost, round(inputs), round(outputs), latency_s, bool(failed), bool(truncated), lane)
        for chars, cost, inputs, outputs, latency_s, failed, truncated, lane in conn.execute(_DRAWN)
    ]


def rest(conn: sqlite3.Connection, last_line: int, *, chosen: bool, once: bool = False) -> Rest:
    """Return what is pending of the lines up to *last_line*, or of `temp.chosen` alone; *once*: of identical ones one."""
    lanes = dict(conn.execute(_REST_CHOSEN) if chosen else conn.execute(_REST, (last_line,)))
    pending = sum(lanes.values())
    if once:
        lanes = dict(conn.execute(_REST_ONCE, (last_line,)))
    lengths = [length for (length,) in conn.execute(_LENGTHS_CHOSEN, (_LENGTHS,))] if chosen else _lengths(conn)
    requests = sum(lanes.values())
    return Rest(requests, sum(lengths) / max(1, len(lengths)), lanes, pending - requests)


def paces(conn: sqlite3.Connection, *, cap: int, cautious_cap: int) -> dict[str, Pace]:
    """Return the limits that the latest run has met, by lane; *cap*: calls in flight at most, the other without a rate."""
    return {
        lane: Pace(rpm, itpm, otpm, cap if rpm or otpm else cautious_cap)
        for lane, rpm, itpm, otpm in conn.execute(_PACES)
    }


def _lengths(conn: sqlite3.Connection) -> list[int]:
    (last,) = conn.execute(_LAST_SEQ).fetchone()
    seqs = random.Random(0).sample(range(1, (last or 0) + 1), min(_LENGTHS, last or 0))
    found = (conn.execute(_LENGTH, (seq,)).fetchone() for seq in seqs)
    return [row[0] for row in found if row is not None]
