"""What a store tells of its job's size and cost without reading all of it: a sample of what is final and of what waits."""

import sqlite3

from batchrunner.policy.projection import Drawn, Pace
from batchrunner.prices import requested_model
from batchrunner.prices.sizing import JobSize
from batchrunner.store.queue import patched

_FINAL = """SELECT length(i.params), total(coalesce(a.cost_usd, a.possible_usd)),
        sum(a.cost_usd IS NULL AND (a.possible_usd IS NULL OR a.output_tokens IS NOT NULL)),
        total(a.input_tokens) + total(a.cache_write_tokens), total(a.output_tokens),
        max(0.0, max((julianday(a.ended_at) - julianday(a.started_at)) * 86400)),
        q.state = 'failed', q.error_class IS 'truncated', q.model_class
    FROM (SELECT DISTINCT seq FROM attempts ORDER BY seq DESC LIMIT :most) latest
    CROSS JOIN requests q ON q.seq = latest.seq AND q.state <> 'pending' AND q.line IS NOT NULL
    CROSS JOIN inputs i ON i.seq = q.seq CROSS JOIN attempts a ON a.seq = q.seq
    WHERE a.ended_at IS NOT NULL GROUP BY q.seq"""
# Fresh ones alone: what waits for a retry is no different. Every so-manieth along the index, so that it takes a second
# at ten million.
_WAITING = """SELECT i.params, i.max_tokens,
        (SELECT json_group_array(json(patch)) FROM (SELECT patch FROM overrides WHERE seq = q.seq ORDER BY rowid)) AS patches
    FROM requests q INDEXED BY requests_fresh CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.state = 'pending' AND q.not_before IS NULL AND q.line IS NOT NULL AND q.answered_by IS NULL AND q.seq % :step = 0"""
_ALL_WAITING = "SELECT coalesce(max(requests - succeeded - failed), 0) FROM job"
_LIMITS = """SELECT lane, rpm, itpm, otpm FROM minutes
    WHERE run_id = (SELECT max(run_id) FROM minutes) AND (rpm IS NOT NULL OR itpm IS NOT NULL OR otpm IS NOT NULL)
    ORDER BY minute"""
_HAS = "SELECT count(*) FROM sqlite_master WHERE name = ?"
_MOST = 400
_MOST_WAITING = 2000


def final_sample(conn: sqlite3.Connection, most: int = _MOST) -> list[Drawn]:
    """Return the last *most* requests of the input that are final, with what all their attempts took; none of an old store."""
    if not conn.execute(_HAS, ("spending",)).fetchone()[0]:
        return []
    return [
        Drawn(chars, None if unpriced else cost_usd, round(asked), round(answered), seconds, failed, cut, lane)
        for chars, cost_usd, unpriced, asked, answered, seconds, failed, cut, lane in conn.execute(
            _FINAL, {"most": most}
        )
    ]


def pending_size(conn: sqlite3.Connection, pending: int) -> JobSize:
    """Return how large the *pending* requests are, by a sample if the store has many that wait, those or others."""
    step = max(1, conn.execute(_ALL_WAITING).fetchone()[0] // _MOST_WAITING)
    size = JobSize()
    for given, permitted, patches in conn.execute(_WAITING, {"step": step}):
        params, max_tokens = (given, permitted) if patches == "[]" else patched(given, patches)[:2]
        size.add(params, requested_model(params), max_tokens)
    return size.times(pending / size.requests) if size.requests else size


def known_limits(conn: sqlite3.Connection) -> dict[str, Pace]:
    """Return what the latest run that knew its limits was permitted per minute, by lane."""
    if not conn.execute(_HAS, ("minutes",)).fetchone()[0]:
        return {}
    return {lane: Pace(rpm, itpm, otpm) for lane, rpm, itpm, otpm in conn.execute(_LIMITS)}
