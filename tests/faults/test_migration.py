"""Stores of earlier schemas: killed in the middle of their migration, short of disk, and then finished all the same."""

import contextlib
import gzip
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batchrunner.failpoints import VARIABLE, Point
from batchrunner.store import schema
from batchrunner.store.files import open_owner
from batchrunner.store.schema import SCHEMA_VERSION
from batchrunner.store.upgrade import copy_path
from faults.endpoint import endpoint
from faults.lives import Nursery, Place, nursery
from running import right_answers

STORES = Path(__file__).parent.parent / "stores"
OLD = sorted(int(path.name.split("-")[1].split(".")[0]) for path in STORES.glob("schema-*.db.gz"))


@pytest.fixture(params=OLD, ids=lambda version: f"schema-{version}")
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Place]:
    where = Place(tmp_path / "run" / "jobs.jsonl", tmp_path / "out")
    where.job.parent.mkdir()
    where.out.mkdir()
    with gzip.open(STORES / f"schema-{request.param}.db.gz") as packed, where.store.open("wb") as file:
        shutil.copyfileobj(packed, file)
    where.store.chmod(0o600)
    return request.param, where


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def content(store: Path) -> list[str]:
    """Return everything in *store* as SQL, and its version; but for the migrations' own book-keeping."""
    with contextlib.closing(sqlite3.connect(store)) as conn:
        version = conn.execute("PRAGMA user_version").fetchone()
        lines = [line for line in conn.iterdump() if "_sqlite_migrations" not in line]
        return [str(version), *sorted(lines)]  # a copy has them in another order


def steps(store: Path, folder: Path) -> int:
    """Return how many instants the migration of a copy of *store* has at which it can be killed."""
    copy = folder / "counted.db"
    shutil.copy(store, copy)
    reached: list[Point] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "reach", reached.append)
        open_owner(copy).close()
    return reached.count(Point.MIGRATING)


def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_store(
    old: tuple[int, Place], runs: Nursery, tmp_path: Path
) -> None:
    version, where = old
    before = content(where.store)
    nowhere = "http://127.0.0.1:9"
    middles = steps(where.store, tmp_path)
    assert middles
    wishes = [f"{Point.BACKED_UP}:1", *(f"{Point.MIGRATING}:{n}" for n in range(1, middles + 1))]
    for wish in wishes:
        life = runs.run(where, nowhere, requests=None, store=where.store.name, env={VARIABLE: wish})
        assert life.finish() == -9, wish
        assert content(where.store) == before, wish
        copy = copy_path(where.store, version)
        assert copy.exists() is (wish != wishes[0])
        if copy.exists():
            assert content(copy) == before
            assert copy.stat().st_mode & 0o777 == 0o600


def test_a_kill_after_the_migration_leaves_the_new_store_and_the_run_goes_on(
    old: tuple[int, Place], runs: Nursery, tmp_path: Path
) -> None:
    version, where = old
    before = content(where.store)
    with endpoint(tmp_path / "endpoint") as served:
        resuming: dict[str, Any] = {"requests": None, "store": where.store.name}
        life = runs.run(where, served.url, env={VARIABLE: f"{Point.MIGRATED}:1"}, **resuming)
        assert life.finish() == -9
        assert content(where.store)[0] == f"({SCHEMA_VERSION},)"
        assert runs.run(where, served.url, **resuming).finish() == 1  # two had failed for good before
    assert right_answers(where.store)
    assert content(copy_path(where.store, version)) == before
    assert len(where.saved()) == 8


def test_without_room_for_a_copy_it_says_so_and_goes_on(
    old: tuple[int, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, where = old
    said: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    open_owner(where.store, note=said.append).close()
    assert "without a copy" in said[0]
    assert "1 MB are free" in said[0]
    assert not copy_path(where.store, version).exists()
    assert content(where.store)[0] == f"({SCHEMA_VERSION},)"


def test_a_copy_that_a_kill_left_half_made_is_made_anew(old: tuple[int, Place]) -> None:
    version, where = old
    before = content(where.store)
    copy = copy_path(where.store, version)
    copy.with_name(copy.name + ".part").write_bytes(b"half")
    said: list[str] = []
    open_owner(where.store, note=said.append).close()
    assert content(copy) == before
    assert str(copy) in said[0]
    assert not copy.with_name(copy.name + ".part").exists()
