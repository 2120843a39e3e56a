"""What attempts cost: added up by the settlements themselves per day, lane, model, endpoint and class."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from batchrunner.model import Settlement, Success, Usage

#: What the third schema adds.
THIRD = (
    """CREATE TABLE prices (
        id INTEGER PRIMARY KEY,
        model TEXT NOT NULL,               -- as the answer, or else the request, names it
        endpoint TEXT NOT NULL,            -- its name; empty: the only one of the run
        priced_at TEXT NOT NULL,           -- the day, and where the figures are from
        figures TEXT                       -- JSON: USD per token by kind, bands, factors; NULL: not known
    )""",
    "ALTER TABLE attempts ADD COLUMN price INTEGER",  # id of the price that was applied; NULL: none was
    # no answer came: at most so much was billed; NULL: nothing was, or cost_usd says it, or no price is known
    "ALTER TABLE attempts ADD COLUMN possible_usd REAL",
    "ALTER TABLE attempts ADD COLUMN cache_write_1h_tokens INTEGER",  # of cache_write_tokens
    "ALTER TABLE attempts ADD COLUMN web_searches INTEGER",
    "ALTER TABLE attempts ADD COLUMN service_tier TEXT",  # as the answer names it; NULL: standard, as for the two below
    "ALTER TABLE attempts ADD COLUMN speed TEXT",
    "ALTER TABLE attempts ADD COLUMN geo TEXT",
    """CREATE TABLE spending (
        day TEXT NOT NULL,                 -- UTC; empty: before this table was there
        lane TEXT NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        class TEXT NOT NULL,               -- success, or the error class
        attempts INTEGER NOT NULL,         -- settled ones; kept by the settlements, so that no screen adds up millions
        answered INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,         -- of the answered, those whose cost is not known
        possibly_billed INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cost_usd REAL NOT NULL,            -- known
        possible_usd REAL NOT NULL,        -- of the possibly billed: at most so much, as far as prices are known
        possible_unpriced INTEGER NOT NULL,  -- of the possibly billed, those that have no such figure
        saved_cache_usd REAL NOT NULL,
        saved_batches_usd REAL NOT NULL,
        PRIMARY KEY (day, lane, model, endpoint, class)
    ) WITHOUT ROWID""",
    """INSERT INTO spending SELECT '', t.lane, '', '', '', t.attempts, t.answered, t.answered, p.n, t.input_tokens,
        t.output_tokens, t.cache_write_tokens, t.cache_read_tokens, 0, 0, p.n, 0, 0
        FROM lane_totals t CROSS JOIN (SELECT 0 AS n) p""",
    """UPDATE spending SET possibly_billed = (SELECT count(*) FROM attempts a
        WHERE a.lane = spending.lane AND (a.ended_at IS NULL OR a.possibly_paid = 1) AND a.ended_at IS NOT NULL)""",
    "UPDATE spending SET possible_unpriced = possibly_billed",
    "DROP VIEW spend",
    "DROP TABLE lane_totals",
)

_OPEN = """SELECT substr(a.started_at, 1, 10), a.lane, coalesce(p.model, ''), coalesce(a.endpoint, ''), 'open',
        1, 0, 0, 1, 0, 0, 0, 0, 0, coalesce(a.possible_usd, 0), a.possible_usd IS NULL, 0, 0
    FROM attempts a INDEXED BY attempts_doubtful LEFT JOIN prices p ON p.id = a.price
    WHERE (a.ended_at IS NULL OR a.possibly_paid = 1) AND a.ended_at IS NULL"""
#: Views over it. What has no end yet, in flight or left by a run that died, is of the class `open`.
VIEWS = {
    "spend": f"SELECT * FROM spending UNION ALL {_OPEN}",  # noqa: S608 - fixed texts
    "lane_totals": """SELECT lane, sum(attempts) AS attempts, sum(answered) AS answered, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(cache_read_tokens) AS cache_read_tokens,
        CASE WHEN sum(unpriced) < sum(answered) OR NOT sum(answered) THEN sum(cost_usd) END AS cost_usd
        FROM spending GROUP BY lane""",
    # One row per attempt, for the reconciliation with an invoice.
    "ledger": """SELECT coalesce(a.ended_at, a.started_at) AS time, a.run_id, q.custom_id, a.number, coalesce(p.model, r.model) AS model,
        a.endpoint, coalesce(a.error_class, a.outcome, 'open') AS class, a.http_status, a.api_request_id,
        a.input_tokens, a.output_tokens, a.cache_write_tokens, a.cache_write_1h_tokens, a.cache_read_tokens, a.web_searches,
        a.service_tier, a.speed, a.geo, a.cost_usd, a.possible_usd,
        a.ended_at IS NULL OR a.possibly_paid AS possibly_billed, p.priced_at, a.started_at, a.ended_at, a.seq
        FROM attempts a JOIN requests q ON q.seq = a.seq LEFT JOIN prices p ON p.id = a.price
        LEFT JOIN results r ON r.seq = a.seq AND r.number = a.number""",
}

KEEP_PRICE = "INSERT OR IGNORE INTO prices (id, model, endpoint, priced_at, figures) VALUES (?, ?, ?, ?, ?)"
PROBABLY_SPENT = """SELECT total(cost_usd), total(possible_usd), sum(possibly_billed) + sum(unpriced), sum(answered) - sum(unpriced)
    FROM spend GROUP BY model"""
_SUMS = (
    "attempts", "answered", "unpriced", "possibly_billed", "input_tokens", "output_tokens", "cache_write_tokens",
    "cache_read_tokens", "cost_usd", "possible_usd", "possible_unpriced", "saved_cache_usd", "saved_batches_usd",
)  # fmt: skip
SPENT = f"""INSERT INTO spending (day, lane, model, endpoint, class, {", ".join(_SUMS)})
    VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, lane, model, endpoint, class) DO UPDATE SET
    {", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)}"""  # noqa: S608 - fixed names


@dataclass(frozen=True, slots=True, eq=False)
class PriceKept:
    """A price is about to be applied for the first time."""

    number: int
    model: str
    endpoint: str
    priced_at: str
    figures: str | None

    def write(self, cursor: sqlite3.Cursor) -> None:
        """Put it on record."""
        cursor.execute(KEEP_PRICE, (self.number, self.model, self.endpoint, self.priced_at, self.figures))


def spent(settlement: Settlement, endpoint: str) -> tuple[Any, ...]:
    """Return what `SPENT` adds up of *settlement*; *endpoint*: its name, empty for the only one of the run."""
    outcome, bill = settlement.outcome, settlement.bill
    answer, name, possibly = (
        (outcome, "success", False)
        if isinstance(outcome, Success)
        else (outcome.answer, outcome.error_class.value, outcome.possibly_paid)
    )
    return (
        settlement.ended_at[:10],
        settlement.attempt.lane,
        bill.model,
        endpoint,
        name,
        answer is not None,
        answer is not None and bill.cost_usd is None,
        possibly,
        *(answer.usage if answer is not None else Usage()).counts,
        bill.cost_usd or 0.0,
        bill.possible_usd or 0.0,
        possibly and bill.possible_usd is None and bill.cost_usd is None,
        bill.saved_cache_usd,
        bill.saved_batches_usd,
    )


def probably_spent_usd(conn: sqlite3.Connection) -> float:
    """Return what all runs have spent so far, in US dollars, as far as prices are known.

    A call that was possibly billed, or whose answer did not say what it took, counts as much as the model's other answers
    on the average, at most what it may have cost.
    """
    total = 0.0
    for known, possible, doubtful, priced in conn.execute(PROBABLY_SPENT):
        total += known + (min(possible, doubtful * known / priced) if priced else possible)
    return total
