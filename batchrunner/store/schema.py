"""Tables, views, indexes and the migrations that lead to them.

All migrations that a store needs run in one transaction and hold single statements only: a script would commit it halfway.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from batchrunner.failpoints import Point, reach
from batchrunner.model import State
from batchrunner.store.batches import TABLES as BATCHES
from batchrunner.store.groups import FILL
from batchrunner.store.sharing import FRESH_INDEX, add_to
from batchrunner.store.spending import THIRD
from batchrunner.store.spending import VIEWS as SPENDING_VIEWS

if TYPE_CHECKING:
    from sqlite_utils import Database

#: "batr": tells our files from every other SQLite file.
APPLICATION_ID = 0x62617472
#: The number of the newest migration; written to `user_version`.
SCHEMA_VERSION = 5

_STATES = ", ".join(f"'{state}'" for state in State)

_TABLES = (
    """CREATE TABLE job (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        input_path TEXT NOT NULL,
        input_bytes INTEGER,
        input_sha256 TEXT,
        defaults TEXT NOT NULL,            -- JSON: what was filled into the requests
        simulated INTEGER NOT NULL,        -- 1: the answers are the simulator's
        created_at TEXT NOT NULL,
        import_completed_at TEXT,          -- NULL: an import was cut short; nothing is sent
        requests INTEGER NOT NULL DEFAULT 0,  -- lines of the latest input; the totals below speak of the same rows
        succeeded INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        removed INTEGER NOT NULL DEFAULT 0    -- kept here, not in the latest input any more
    )""",
    f"""CREATE TABLE requests (
        seq INTEGER PRIMARY KEY,           -- order of arrival
        custom_id TEXT NOT NULL,
        line INTEGER,                      -- in the latest input; NULL: not in it any more
        line_hash TEXT NOT NULL,
        params_hash TEXT NOT NULL,
        model_class TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ({_STATES})),
        attempts INTEGER NOT NULL DEFAULT 0,
        budget_from INTEGER NOT NULL DEFAULT 0,  -- attempts up to this one count for no retry budget (`retry`)
        error_class TEXT,                  -- of the latest attempt
        signature TEXT,
        error_message TEXT,
        not_before TEXT,                   -- a retry is due from here on
        finished_at TEXT,
        CHECK ((finished_at IS NOT NULL) = (state <> 'pending')),
        CHECK (not_before IS NULL OR state = 'pending')
    )""",
    """CREATE TABLE inputs (
        seq INTEGER PRIMARY KEY,
        params TEXT NOT NULL,              -- JSON: the body as it is sent
        metadata TEXT,                     -- JSON object: comes back in the export
        max_tokens INTEGER NOT NULL,
        stream INTEGER NOT NULL,
        timeout_s REAL
    )""",
    """CREATE TABLE overrides (
        seq INTEGER NOT NULL,
        patch TEXT NOT NULL,               -- JSON object laid over the body, key by key
        created_at TEXT NOT NULL
    )""",
    """CREATE TABLE attempts (
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        lane TEXT NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,                     -- NULL: in flight, or possibly paid and never answered
        outcome TEXT CHECK (outcome IN ('success', 'failure')),
        error_class TEXT,
        http_status INTEGER,
        api_request_id TEXT,
        message TEXT,
        possibly_paid INTEGER NOT NULL DEFAULT 0,  -- 1: failed, but the server may have worked and billed
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_write_tokens INTEGER,
        cache_read_tokens INTEGER,
        cost_usd REAL,                     -- NULL: unknown
        PRIMARY KEY (seq, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE results (
        seq INTEGER NOT NULL,
        number INTEGER NOT NULL,
        accepted INTEGER NOT NULL,         -- 0: truncated, refused and the like; kept all the same
        text TEXT NOT NULL,
        stop_reason TEXT NOT NULL,
        model TEXT NOT NULL,
        message TEXT NOT NULL,             -- JSON: the answer as received
        PRIMARY KEY (seq, number)
    )""",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        version TEXT NOT NULL,
        settings TEXT NOT NULL,            -- JSON
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        heartbeat_at TEXT NOT NULL,
        ended_at TEXT,
        ending TEXT,
        reason TEXT
    )""",
    """CREATE TABLE lane_totals (
        lane TEXT PRIMARY KEY,             -- kept by the settlements, so that no screen has to add up millions of rows
        attempts INTEGER NOT NULL,
        answered INTEGER NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cost_usd REAL                      -- NULL: unknown
    ) WITHOUT ROWID""",
    "CREATE INDEX overrides_seq ON overrides (seq)",
    "CREATE INDEX attempts_doubtful ON attempts (lane, seq) WHERE ended_at IS NULL OR possibly_paid = 1",
)

#: What the second schema adds to the first. No row is rewritten, however many there are.
_SECOND = (
    # JSON list of {at, what, now, wish}: how the run was retuned while it worked
    "ALTER TABLE runs ADD COLUMN changes TEXT NOT NULL DEFAULT '[]'",
    # 0: the failure was the lane's (a rate limit, an outage) and used up none of the request's attempts
    "ALTER TABLE attempts ADD COLUMN counted INTEGER NOT NULL DEFAULT 1",
    # name of the endpoint in the user's configuration; NULL: the only one of its run, named in runs.settings
    "ALTER TABLE attempts ADD COLUMN endpoint TEXT",
    # JSON list of {name, calls, answered, state, reason, ...}: what became of each named endpoint
    "ALTER TABLE runs ADD COLUMN endpoints TEXT NOT NULL DEFAULT '[]'",
    """CREATE TABLE minutes (
        run_id INTEGER NOT NULL,
        lane TEXT NOT NULL,
        endpoint TEXT NOT NULL DEFAULT '',  -- its name; empty: the only one of the run
        minute TEXT NOT NULL,              -- UTC, of its beginning
        sent INTEGER NOT NULL,
        refused INTEGER NOT NULL,          -- 429s
        failed INTEGER NOT NULL,           -- failures that an outage may cause
        input_tokens INTEGER NOT NULL,     -- as the limits count them: without what the cache read
        output_tokens INTEGER NOT NULL,
        rpm REAL,                          -- the limits in force at its end, per minute; NULL: none known
        itpm INTEGER,
        otpm INTEGER,
        waited TEXT NOT NULL,              -- JSON: seconds that the lane waited, by what for
        PRIMARY KEY (run_id, lane, endpoint, minute)
    ) WITHOUT ROWID""",
    """CREATE TABLE failure_groups (
        error_class TEXT NOT NULL,         -- kept by the settlements, so that no screen has to count millions of rows
        signature TEXT NOT NULL,
        failed INTEGER NOT NULL,           -- requests of the latest input that were given up for it
        first_at TEXT NOT NULL,            -- when the first and the last of them were
        last_at TEXT NOT NULL,
        PRIMARY KEY (error_class, signature)
    ) WITHOUT ROWID""",
    FILL,
)

#: Built when an import is complete: keeping them up to date row by row would cost most of its speed.
IMPORT_INDEXES = (
    FRESH_INDEX,
    """CREATE INDEX IF NOT EXISTS requests_due ON requests (model_class, not_before)
       WHERE state = 'pending' AND not_before IS NOT NULL AND line IS NOT NULL""",
    "CREATE INDEX IF NOT EXISTS requests_failed ON requests (error_class, signature) WHERE state = 'failed'",
    "CREATE INDEX IF NOT EXISTS requests_line ON requests (line) WHERE line IS NOT NULL",
)
UNIQUE_ID_INDEX = "CREATE UNIQUE INDEX IF NOT EXISTS requests_custom_id ON requests (custom_id)"

_VIEWS = {
    "progress": """SELECT requests, succeeded, failed, requests - succeeded - failed AS pending, removed FROM job""",
    "failures": """
        SELECT q.custom_id, q.line, q.error_class, q.error_message, q.attempts, q.finished_at, q.signature, q.seq
        FROM requests q WHERE q.state = 'failed'""",
    "spend": """
        SELECT t.lane, t.attempts, t.answered,
               (SELECT count(*) FROM attempts a
                WHERE a.lane = t.lane AND (a.ended_at IS NULL OR a.possibly_paid = 1)) AS possibly_paid,
               t.input_tokens, t.output_tokens, t.cache_write_tokens, t.cache_read_tokens, t.cost_usd
        FROM lane_totals t""",
    "results_flat": """
        SELECT q.custom_id, q.state AS status, r.text, r.stop_reason, r.model,
               a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens, a.cost_usd,
               q.attempts,
               round((julianday(a.ended_at) - julianday(a.started_at)) * 86400, 3) AS latency_s,
               q.error_class, q.error_message, a.api_request_id, i.metadata, r.message, q.line, q.seq
        FROM requests q
        JOIN inputs i ON i.seq = q.seq
        LEFT JOIN results r
            ON r.seq = q.seq
            AND r.number = (SELECT max(number) FROM results WHERE seq = q.seq AND number > q.budget_from)
        LEFT JOIN attempts a
            ON a.seq = q.seq AND a.number = coalesce(r.number, q.attempts) AND a.number > q.budget_from""",
}


def migrate(db: "Database") -> None:
    """Bring *db* to `SCHEMA_VERSION`."""
    from sqlite_utils import Migrations

    migrations = Migrations("batchrunner")

    @migrations()
    def m001_first_schema(db: "Database") -> None:
        for statement in _TABLES:
            db.execute(statement)
        for name, select in _VIEWS.items():
            db.create_view(name, select)

    @migrations()
    def m002_second_schema(db: "Database") -> None:
        _apply(db, _SECOND)

    @migrations()
    def m003_third_schema(db: "Database") -> None:
        _apply(db, THIRD)
        for name, select in SPENDING_VIEWS.items():
            db.create_view(name, select)

    @migrations()
    def m004_batches(db: "Database") -> None:
        _apply(db, BATCHES)

    @migrations()
    def m005_fifth_schema(db: "Database") -> None:
        reach(Point.MIGRATING)
        add_to(db)

    with db.atomic():  # all of them, or none: a crash leaves the store as it was
        migrations.apply(db)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION:d}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")


def _apply(db: "Database", statements: Iterable[str]) -> None:
    for statement in statements:
        reach(Point.MIGRATING)
        db.execute(statement)
