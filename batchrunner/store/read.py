"""What can be asked of a store, also while a run writes to it. Nothing here changes a byte.

Plain `sqlite3`: sqlite-utils would take twice as long to import as a whole `status` takes.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchrunner.errors import StoreError
from batchrunner.store.accounts import Account, KeptPrice, accounts, kept_prices, ledger_rows, spend_of_lanes
from batchrunner.store.batches import all_batches, sitting
from batchrunner.store.damage import is_damage
from batchrunner.store.detail import HAS_TWINS, Detail, find_detail, id_at_line, similar_ids
from batchrunner.store.files import open_reader
from batchrunner.store.found import (
    ExportRow,
    FailedRequest,
    FailureGroup,
    Job,
    Named,
    PossibleDuplicate,
    Progress,
    Retrying,
    Run,
    Spend,
    Unsettled,
)
from batchrunner.store.groups import as_list, failure_groups, named_groups
from batchrunner.store.history import PastRun, latest_settings, past_runs
from batchrunner.store.minutes import HeldBack, held_back
from batchrunner.store.rows import ALL, Chosen, export_rows
from batchrunner.store.selection import SelectedGroup, Selection, count_selected
from batchrunner.store.where import check_condition

JOB = "SELECT input_path, simulated, defaults, created_at, import_completed_at FROM job WHERE import_completed_at IS NOT NULL"
PROGRESS = "SELECT requests, succeeded, failed, pending, removed FROM progress"
RUNS = "SELECT * FROM runs ORDER BY id DESC LIMIT :count"  # of whatever schema
FIRST_RUN = "SELECT min(id) FROM runs"
TWINS = "SELECT EXISTS (SELECT 1 FROM requests INDEXED BY requests_waiting WHERE answered_by IS NOT NULL)"
# The literal predicates are those of the partial indexes; without the hints SQLite, which may have no statistics yet,
# walks the index on `line` and looks up every row.
FINISHED_SINCE = "SELECT count(*) FROM requests NOT INDEXED WHERE finished_at >= :since AND line IS NOT NULL"
RETRYING = """SELECT count(*) AS count, min(not_before) AS next_at FROM requests INDEXED BY requests_due
    WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL"""
# What `retry` put back has its whole budget before it until its next attempt ends. Along the indexes: a store whose
# requests are all final has nothing in them.
UNSETTLED = """WITH waiting AS (
        SELECT error_class, attempts > budget_from AS tried FROM requests INDEXED BY requests_fresh
        WHERE state = 'pending' AND not_before IS NULL AND line IS NOT NULL
        UNION ALL
        SELECT error_class, attempts > budget_from FROM requests INDEXED BY requests_due
        WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL)
    SELECT error_class, sum(tried) AS retrying, sum(NOT tried) AS put_back FROM waiting
    WHERE error_class IS NOT NULL AND (:error_class IS NULL OR error_class = :error_class)
    GROUP BY error_class ORDER BY count(*) DESC, error_class"""
FAILED = """SELECT custom_id, line, error_class, error_message AS message, attempts
    FROM requests INDEXED BY requests_line
    WHERE line IS NOT NULL AND state = 'failed' AND (:error_class IS NULL OR error_class = :error_class)
      AND (:groups IS NULL OR error_class || char(10) || signature IN (SELECT value FROM json_each(:groups)))
    ORDER BY line"""
NAMED = (
    "SELECT custom_id, line, state, attempts, error_class, error_message AS message FROM requests WHERE custom_id = ?"
)
# The first condition is the index's own, so that a million settled attempts are never looked at; the order is the
# index's too. Only this fixed text is ever put in.
_DOUBTFUL = """(a.ended_at IS NULL OR a.possibly_paid = 1)
    AND (a.possibly_paid = 1 OR a.run_id IS NOT :living)"""
_DUPLICATES_COUNT = "SELECT count(*) FROM attempts a INDEXED BY attempts_doubtful WHERE {doubtful}"
_DUPLICATES = """SELECT q.custom_id, q.line, a.number, a.started_at, a.ended_at, a.error_class, r.ending,
        EXISTS (SELECT 1 FROM attempts n WHERE n.seq = a.seq AND n.number > a.number) AS sent_again
    FROM attempts a INDEXED BY attempts_doubtful
    CROSS JOIN requests q ON q.seq = a.seq LEFT JOIN runs r ON r.id = a.run_id
    WHERE {doubtful} ORDER BY a.lane, a.seq, a.number"""
DUPLICATES_COUNT = _DUPLICATES_COUNT.format(doubtful=_DOUBTFUL)
DUPLICATES = _DUPLICATES.format(doubtful=_DOUBTFUL)
METADATA = """SELECT i.metadata FROM requests q INDEXED BY requests_line CROSS JOIN inputs i ON i.seq = q.seq
    WHERE q.line IS NOT NULL AND i.metadata IS NOT NULL ORDER BY q.line"""


class Reader:
    """A store as it is at one moment: all answers of one `with` block speak of the same snapshot.

    `with Reader(path) as reader:` raises `UsageError` if there is no store, `StoreError` if it is none of ours, and
    turns every error of SQLite inside the block, and text in the store that cannot be read, into a `StoreError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conn: sqlite3.Connection

    def __enter__(self) -> Self:
        self._conn = open_reader(self.path)
        self._conn.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.closing(self._conn):
            is_of_store = error is not None and is_damage(self._conn, error)
        if is_of_store:
            raise StoreError(
                f"{self.path} cannot be read: {error}. Try again; if it stays so, `sqlite3 {self.path} .recover` saves "
                "what can be read."
            ) from error

    def job(self) -> Job | None:
        """Return what the store belongs to; None as long as no job file was taken in completely."""
        row = self._conn.execute(JOB).fetchone()
        return Job(**{**row, "simulated": bool(row["simulated"])}) if row else None

    def progress(self) -> Progress:
        """Return the totals; all zero as long as no job file was taken in completely."""
        row = self._conn.execute(PROGRESS).fetchone()
        return Progress(**row) if row else Progress()

    def latest_runs(self, count: int = 1) -> list[Run]:
        """Return the latest *count* runs, newest first."""
        return [Run.of(row) for row in self._conn.execute(RUNS, {"count": count})]

    def is_running(self, now: datetime) -> bool:
        """Whether a run works on the store at *now* (UTC, aware)."""
        return self._living_run(now) is not None

    def finished_during(self, run: Run) -> int:
        """Return how many requests became final in *run*, the latest. Reads every request unless it is the first."""
        if self._number(FIRST_RUN, {}) == run.id:
            progress = self.progress()
            return progress.succeeded + progress.failed
        return self._number(FINISHED_SINCE, {"since": run.started_at})

    def has_twins(self) -> bool | None:
        """Whether requests have the answers of identical ones (`--dedupe`); None in a store too old to know of that."""
        return bool(self._number(TWINS, {})) if self._number(HAS_TWINS, {}) else None

    def retrying(self) -> Retrying:
        """Return how many requests wait for an instant, and the earliest (UTC stamp)."""
        if self.job() is None:  # the indexes are built when the import is complete
            return Retrying(0, None)
        return Retrying(**self._conn.execute(RETRYING).fetchone())

    def unsettled(self, error_class: str | None = None) -> Unsettled:
        """Return the pending requests that met an error; only those of *error_class* if given."""
        if self.job() is None:
            return Unsettled({}, {})
        rows = self._conn.execute(UNSETTLED, {"error_class": error_class}).fetchall()
        retrying, put_back = (
            {row["error_class"]: row[which] for row in rows if row[which]} for which in ("retrying", "put_back")
        )
        return Unsettled(retrying, put_back)

    def failure_groups(
        self, error_class: str | None = None, signatures: Sequence[str] = (), *, limit: int = 100
    ) -> list[FailureGroup]:
        """Return the *limit* largest groups of failed requests, largest first; only of *error_class* if given.

        *signatures* narrow it further, as `groups.named_groups` reads them; `UsageError` for one that nothing has.
        """
        if self.job() is None:
            return []
        only = set(named_groups(self._conn, signatures)) if signatures else None
        return failure_groups(self._conn, error_class, limit, only)

    def failed_requests(
        self, error_class: str | None = None, signatures: Sequence[str] = ()
    ) -> Iterator[FailedRequest]:
        """Yield every failed request, in the order of the input; narrowed down as `failure_groups` is."""
        if self.job() is not None:
            groups = as_list(named_groups(self._conn, signatures)) if signatures else None
            for row in self._conn.execute(FAILED, {"error_class": error_class, "groups": groups}):
                yield FailedRequest(**row)

    def named(self, custom_id: str) -> Named | None:
        """Return where the request *custom_id* stands, and what its latest failure was; None if there is none."""
        row = self._conn.execute(NAMED, (custom_id,)).fetchone()
        return Named(**row) if row else None

    def selected(self, selection: Selection) -> list[SelectedGroup]:
        """Return what `retry` with *selection* would put back; `UsageError` as `count_selected` raises it."""
        return count_selected(self._conn, selection) if self.job() is not None else []

    def tokens(self) -> list[Spend]:
        """Return what was used, per lane."""
        return spend_of_lanes(self._conn)

    def accounts(self, now: datetime) -> list[Account]:
        """Return what attempts cost, by day, lane, model, endpoint and class; *now* (UTC, aware) tells what is in flight."""
        return accounts(self._conn, self._living_run(now))

    def ledger(self) -> Iterator[sqlite3.Row]:
        """Yield every attempt with what it cost: `accounts.LEDGER_COLUMNS`. Raises `UsageError` for an old store."""
        yield from ledger_rows(self._conn)

    def prices(self) -> list[KeptPrice]:
        """Return every price that was applied, by model, endpoint and day; none of an old store."""
        return kept_prices(self._conn)

    def count_possible_duplicates(self, now: datetime) -> int:
        """Return how many attempts `possible_duplicates` yields."""
        return self._number(DUPLICATES_COUNT, {"living": self._living_run(now)})

    def possible_duplicates(self, now: datetime) -> Iterator[PossibleDuplicate]:
        """Yield the attempts that may have been paid for without an answer, lane by lane, by order of arrival.

        They are those that never ended although their run is over or dead at *now* (UTC, aware), and those that
        failed in a way that leaves it open whether the server worked.
        """
        for row in self._conn.execute(DUPLICATES, {"living": self._living_run(now)}):
            yield PossibleDuplicate(
                custom_id=row["custom_id"],
                line=row["line"],
                number=row["number"],
                started_at=row["started_at"],
                reason=_reason(row),
                sent_again=bool(row["sent_again"]),
            )

    def export_rows(self, chosen: Chosen = ALL, extra: Sequence[str] = ()) -> Iterator[ExportRow]:
        """Yield a row per request of the latest input that is *chosen*, in its order.

        Its columns are `EXPORT_COLUMNS`, `metadata` (JSON text) and *extra* (of `rows.EXTRA_COLUMNS`). Raises
        `UsageError` if the condition of *chosen* is none.
        """
        if self.job() is not None:
            yield from export_rows(self._conn, chosen, extra)

    def check_condition(self, expression: str) -> None:
        """Raise `UsageError` unless *expression* will do as the condition of a `Chosen`."""
        check_condition(self._conn, expression)

    def past_runs(self) -> list[PastRun]:
        """Return every run, the oldest first."""
        return past_runs(self._conn)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the latest run as they were, or are, in force last; empty if there was none."""
        return latest_settings(self._conn)

    def held_back(self, run: Run) -> list[HeldBack]:
        """Return what the lanes of *run* have waited for."""
        return held_back(self._conn, run.id)

    def detail(self, custom_id: str) -> Detail | None:
        """Return all that is known of the request *custom_id*, also of one that left the input."""
        return find_detail(self._conn, custom_id)

    def similar_ids(self, wanted: str) -> list[str]:
        """Return the few ids that are most like *wanted*."""
        return similar_ids(self._conn, wanted)

    def id_at_line(self, line: str) -> str | None:
        """Return the id of the request on *line* of the input, if that is a number and there is one."""
        return id_at_line(self._conn, line)

    def metadata(self) -> Iterator[str]:
        """Yield the metadata (JSON object text) of the requests that have any, in the order of the input."""
        if self.job() is not None:
            for (text,) in self._conn.execute(METADATA):
                yield text

    def batches(self) -> list[dict[str, Any]]:
        """Return every message batch, the oldest first: its row, and how many requests still sit in it."""
        return list(all_batches(self._conn))

    def in_batches(self) -> int:
        """Return how many requests sit in message batches."""
        return sitting(self._conn)

    def _living_run(self, now: datetime) -> int | None:
        # Only one run owns a store at a time, so only the newest can be alive.
        return next((run.id for run in self.latest_runs(1) if run.is_alive(now)), None)

    def _number(self, sql: str, params: Mapping[str, Any]) -> int:
        return int(self._conn.execute(sql, params).fetchone()[0])


_IN_FLIGHT = {"died": "died", None: "died", "interrupted": "was interrupted", "terminated": "was interrupted"}


def _reason(row: sqlite3.Row) -> str:
    if row["ended_at"] is None:
        return f"in flight when the run {_IN_FLIGHT.get(row['ending'], 'ended')}"
    return str(row["error_class"])
