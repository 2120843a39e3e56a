"""Stores that earlier versions wrote: read as they are, migrated by the next run, and resumed."""

import contextlib
import gzip
import shutil
import sqlite3
from pathlib import Path

import pytest

from batchrunner.errors import Exit
from batchrunner.store.files import open_owner, open_reader
from batchrunner.store.schema import SCHEMA_VERSION
from running import KEY, command, right_answers, rows, simulator_thread
from store_helpers import report, typed

STORES = Path(__file__).parent / "stores"
OLD = sorted(int(path.name.split("-")[1].split(".")[0]) for path in STORES.glob("schema-*.db.gz"))


@pytest.fixture(params=OLD, ids=lambda version: f"schema-{version}")
def old_store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Path]:
    """A store of each schema before today's, in a directory of its own."""
    store = tmp_path / "jobs.db"
    with gzip.open(STORES / f"schema-{request.param}.db.gz") as packed, store.open("wb") as file:
        shutil.copyfileobj(packed, file)
    store.chmod(0o600)
    return request.param, store


def test_every_schema_before_todays_is_kept() -> None:
    assert list(range(1, SCHEMA_VERSION)) == OLD


def version_of(store: Path) -> int:
    with contextlib.closing(sqlite3.connect(store)) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def columns(store: Path) -> dict[str, list[str]]:
    with contextlib.closing(open_reader(store)) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        return {
            name: [row["name"] for row in conn.execute("SELECT name FROM pragma_table_info(?)", (name,))]
            for name in sorted(tables)
        }


def test_reading_verbs_take_an_old_store_as_it_is(old_store: tuple[int, Path]) -> None:
    version, store = old_store
    before = store.read_bytes()
    assert report("status", store)["pending"] == 8
    assert report("errors", store)["failed"] == 2
    assert report("show", store, "r3")["attempts"][0]["error_class"] == "server"
    assert [run["id"] for run in report("runs", store)["runs"]] == [1]
    assert report("runs", store)["runs"][0]["changes"] == []
    assert report("spend", store)["known_usd"] is None
    assert report("spend", store)["unpriced_answers"] == 3
    for verb in ("status", "errors", "runs", "show", "spend"):
        assert typed(verb, store, *(["r5"] if verb == "show" else [])).exit_code == Exit.OK
    assert typed("export", store, "-o", store.with_name("out.csv")).exit_code == Exit.OK
    assert version_of(store) == version
    assert store.read_bytes() == before


def test_an_old_store_gets_the_tables_of_a_new_one(old_store: tuple[int, Path]) -> None:
    _, store = old_store
    open_owner(store).close()
    new = store.with_name("new.db")
    open_owner(new).close()
    assert version_of(store) == version_of(new) == SCHEMA_VERSION
    mended, made = columns(store), columns(new)
    assert {name: sorted(names) for name, names in mended.items()} == {n: sorted(names) for n, names in made.items()}
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]


def test_a_migration_that_was_cut_short_before_its_mark_is_finished(old_store: tuple[int, Path]) -> None:
    version, store = old_store
    open_owner(store).close()
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as conn:
        conn.execute(f"PRAGMA user_version = {version:d}")
    open_owner(store).close()
    assert version_of(store) == SCHEMA_VERSION


def test_an_old_store_is_resumed_with_its_limits_and_loses_nothing(
    old_store: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = old_store
    answered = rows(store, "SELECT * FROM results ORDER BY seq, number")
    with simulator_thread("latency=0.01") as (url, ledger):
        done = command("resume", store.name, "--progress", "plain", url=url, cwd=store.parent, key=KEY)
        assert done.code == Exit.SOME_FAILED, done.stderr
        sent = ledger.arrivals
    assert "at most 6000/60s, at most 2 in flight" in done.stderr
    assert rows(store, "SELECT succeeded, failed FROM job") == [(10, 2)]
    assert sent == 9  # what was pending, and once more the one that fails at first
    assert rows(store, "SELECT * FROM results WHERE seq <= 3 ORDER BY seq, number") == answered
    assert rows(store, "SELECT ending FROM runs ORDER BY id") == [("died",), ("finished",)]
    assert rows(store, "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(2,)]
    assert right_answers(store)


def test_an_old_store_gets_the_counts_of_its_failures(old_store: tuple[int, Path]) -> None:
    _, store = old_store
    counted = report("errors", store)["groups"]
    open_owner(store).close()
    assert rows(store, "SELECT sum(failed) FROM failure_groups") == [(2,)]
    assert report("errors", store)["groups"] == counted
