"""What a store's attempts have cost, as a reader finds it: settled ones as they were added up, open ones one by one."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from batchrunner.errors import UsageError
from batchrunner.store.found import DamagedError, Spend

HAS_SPENDING = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'spending'"
SETTLED = "SELECT * FROM spending"
# The first condition is the index's own: see read.py. What is open is at most what was in flight when runs died.
OPEN = """SELECT substr(a.started_at, 1, 10) AS day, a.lane, coalesce(p.model, '') AS model, coalesce(a.endpoint, '') AS endpoint,
        CASE WHEN a.run_id IS :living THEN 'in flight' ELSE 'abandoned' END AS class, count(*) AS attempts,
        count(*) AS possibly_billed, total(a.possible_usd) AS possible_usd, sum(a.possible_usd IS NULL) AS possible_unpriced
    FROM attempts a INDEXED BY attempts_doubtful LEFT JOIN prices p ON p.id = a.price
    WHERE (a.ended_at IS NULL OR a.possibly_paid = 1) AND a.ended_at IS NULL
    GROUP BY 1, 2, 3, 4, 5"""
#: Of a store that no run has brought to the third schema yet.
PRICES = "SELECT model, endpoint, priced_at, figures FROM prices ORDER BY model, endpoint, priced_at"
OLD_LANES = "SELECT * FROM spend ORDER BY lane"
DOUBTFUL_BY_LANE = """SELECT lane, count(*) FROM attempts INDEXED BY attempts_doubtful
    WHERE ended_at IS NULL OR possibly_paid = 1 GROUP BY lane"""
#: The columns of an exported ledger, in their order.
LEDGER_COLUMNS = (
    "time", "run_id", "custom_id", "number", "model", "endpoint", "class", "http_status", "api_request_id", "input_tokens",
    "output_tokens", "cache_write_tokens", "cache_write_1h_tokens", "cache_read_tokens", "web_searches", "service_tier", "speed",
    "geo", "cost_usd", "possibly_billed", "possible_usd", "priced_at", "started_at", "ended_at",
)  # fmt: skip
LEDGER = f"SELECT {', '.join(LEDGER_COLUMNS)} FROM ledger ORDER BY seq, number"  # noqa: S608 - fixed names
#: What was in flight when a run died, and what is.
ABANDONED, IN_FLIGHT = "abandoned", "in flight"


@dataclass(frozen=True, slots=True)
class Account:
    """What the attempts of one day, lane, model, endpoint and class have used and cost; or sums of such."""

    day: str = ""  #: UTC; empty: before costs were kept.
    lane: str = ""
    model: str = ""  #: Empty: not known.
    endpoint: str = ""  #: Its name; empty: the only one of its run.
    class_: str = ""  #: success, an error class, or what has no end: `in flight`, `abandoned`.
    attempts: int = 0
    answered: int = 0
    unpriced: int = 0  #: Of the answered, those whose cost is not known.
    possibly_billed: int = 0  #: Without an answer, but the server may have worked and billed.
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0  #: As far as it is known.
    possible_usd: float = 0.0  #: What the possibly billed cost at most, as far as prices are known.
    possible_unpriced: int = 0  #: Of the possibly billed, those without such a figure.
    saved_cache_usd: float = 0.0  #: Less than without a cache; below zero if more was written than it paid.
    saved_batches_usd: float = 0.0  #: Less than over the Messages API.

    def plus(self, other: "Account") -> "Account":
        """Return the sums of both, under the names of this one."""
        return Account(
            **{name: getattr(self, name) for name in _NAMES} | {n: getattr(self, n) + getattr(other, n) for n in _SUMS}
        )

    @classmethod
    def of(cls, row: sqlite3.Row) -> Self:
        """Return the account of a row of the store."""
        facts: dict[str, Any] = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row
        return cls(class_=facts.pop("class"), **facts)


_NAMES = ("day", "lane", "model", "endpoint", "class_")
_SUMS = tuple(field.name for field in fields(Account) if field.name not in _NAMES)


def accounts(conn: sqlite3.Connection, living: int | None) -> list[Account]:
    """Return every account; *living* is the id of the run that is at work, if one is. Of an old store, its lanes alone."""
    if not conn.execute(HAS_SPENDING).fetchone()[0]:
        return [
            Account(
                lane=lane.lane,
                attempts=lane.attempts,
                answered=lane.answered,
                unpriced=lane.answered,
                possibly_billed=lane.possibly_paid,
                possible_unpriced=lane.possibly_paid,
                input_tokens=lane.input_tokens,
                output_tokens=lane.output_tokens,
                cache_write_tokens=lane.cache_write_tokens,
                cache_read_tokens=lane.cache_read_tokens,
            )
            for lane in spend_of_lanes(conn)
        ]
    rows = [*conn.execute(SETTLED), *conn.execute(OPEN, {"living": living})]
    return [Account.of(row) for row in rows]


def spend_of_lanes(conn: sqlite3.Connection) -> list[Spend]:
    """Return what was used, per lane; what has not ended counts among the possibly paid alone."""
    if not conn.execute(HAS_SPENDING).fetchone()[0]:
        return [Spend(**row) for row in conn.execute(OLD_LANES)]
    doubtful = dict(conn.execute(DOUBTFUL_BY_LANE).fetchall())
    lanes = grouped([Account.of(row) for row in conn.execute(SETTLED)], lambda one: one.lane)
    return [
        Spend(
            lane=name,
            attempts=sums.attempts,
            answered=sums.answered,
            possibly_paid=doubtful.get(name, 0),
            input_tokens=sums.input_tokens,
            output_tokens=sums.output_tokens,
            cache_write_tokens=sums.cache_write_tokens,
            cache_read_tokens=sums.cache_read_tokens,
            cost_usd=None if sums.unpriced == sums.answered else sums.cost_usd,
        )
        for name, sums in sorted(lanes.items())
    ]


@dataclass(frozen=True, slots=True)
class KeptPrice:
    """A price that was applied, as it is on record."""

    model: str
    endpoint: str
    priced_at: str  #: The day, and where the figures are from.
    figures: dict[str, Any] | None  #: USD per token by kind, bands, factors; None: not known.


def kept_prices(conn: sqlite3.Connection) -> list[KeptPrice]:
    """Return every price on record, by model, endpoint and day; none of an old store."""
    if not conn.execute(HAS_SPENDING).fetchone()[0]:
        return []
    return [
        KeptPrice(row["model"], row["endpoint"], row["priced_at"], _figures(row["figures"]))
        for row in conn.execute(PRICES)
    ]


def _figures(text: str | None) -> dict[str, Any] | None:
    figures: dict[str, Any] | None = json.loads(text or "null")
    try:
        if figures is None or {"input", "output"} <= figures["rates"].keys():
            return figures
    except (TypeError, KeyError, AttributeError):
        pass
    raise DamagedError("the figures of a price have lost their form")


def ledger_rows(conn: sqlite3.Connection) -> Iterator[sqlite3.Row]:
    """Yield every attempt with what it cost, in the order of the requests' arrival. Raises `UsageError` for an old store."""
    if not conn.execute(HAS_SPENDING).fetchone()[0]:
        raise UsageError("This store is of an earlier version, which kept no costs; the next run brings it up to date.")
    yield from conn.execute(LEDGER)


def grouped(given: Sequence[Account], key: Callable[[Account], str]) -> dict[str, Account]:
    """Return the sums of *given* by what *key* says of each, in the order in which the keys come."""
    found: dict[str, Account] = {}
    for one in given:
        name = key(one)
        found[name] = found[name].plus(one) if name in found else one
    return found


def total(given: Sequence[Account]) -> Account:
    """Return the sums of all of *given*."""
    return grouped(given, lambda _: "").get("", Account())
