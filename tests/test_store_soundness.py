"""Damage is looked for before a run begins, in a time that does not grow with the store."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from batchrunner.errors import StoreError
from batchrunner.store import soundness
from batchrunner.store.files import close_owner, open_owner
from store_helpers import answer, building, requests

PAGE = 4096
ROWS = 300
TABLES = ("requests", "inputs", "attempts", "results")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some fifty pages, every request of which is answered."""
    path = tmp_path_factory.mktemp("made") / "jobs.db"
    with building(path) as maker:
        maker.take_in(requests(ROWS))
        maker.begin()
        for n in range(1, ROWS + 1):
            maker.settle(f"r{n}", answer("word " * 20))
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(made, tmp_path))


def statements(store: Path) -> list[str]:
    """Return what is executed to see whether *store* is sound."""
    seen: list[str] = []
    with contextlib.closing(sqlite3.connect(store)) as conn:
        conn.set_trace_callback(seen.append)
        assert soundness.flaw(conn) is None
    return seen


def leaf_of(store: Path, table: str) -> int:
    """Return the number of a leaf page of *table*, one from the middle."""
    with contextlib.closing(sqlite3.connect(store)) as conn:
        page = int(conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0])
    data = store.read_bytes()

    def children(page: int) -> list[int]:
        start = (page - 1) * PAGE
        kind, cells = data[start], int.from_bytes(data[start + 3 : start + 5], "big")
        if kind not in {2, 5}:  # a leaf
            return []
        pointers = [int.from_bytes(data[start + 12 + 2 * i : start + 14 + 2 * i], "big") for i in range(cells)]
        return [int.from_bytes(data[start + at : start + at + 4], "big") for at in pointers]

    while below := children(page):
        page = below[len(below) // 2]
    return page


def test_a_small_store_is_checked_whole(store: Path) -> None:
    assert any("quick_check(1)" in statement for statement in statements(store))


def test_of_a_large_store_only_a_bounded_number_of_places_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "WHOLE_BYTES", 0)
    seen = statements(store)
    assert not any("quick_check(1)" in statement for statement in seen)
    assert sum("FROM results" in statement for statement in seen) == soundness._PLACES + 1
    assert len(seen) < 5 * soundness._PLACES


def test_looking_at_places_reads_no_table_whole(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store)) as conn:
        for table in TABLES:
            names = {"table": table, "key": soundness._KEYS.get(table, "seq")}
            for sql in (soundness._ENDS, soundness._LOOK):
                bound = (1,) if "?" in sql else ()
                plan = [row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + sql.format(**names), bound)]
                assert not any(step.startswith("SCAN") and "CONSTANT" not in step for step in plan), plan


def _zeros(store: Path, table: str) -> None:
    with store.open("r+b") as file:
        file.seek((leaf_of(store, table) - 1) * PAGE)
        file.write(bytes(PAGE))


def _cut_off(store: Path, _table: str) -> None:
    with store.open("r+b") as file:
        file.truncate(store.stat().st_size // 2 // PAGE * PAGE)


@pytest.mark.parametrize("spoil", [_zeros, _cut_off], ids=["zeros", "cut-off"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("whole", [True, False], ids=["small", "large"])
def test_a_damaged_store_is_refused_and_left_as_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, str], None], table: str, *, whole: bool
) -> None:
    spoil(store, table)
    before = store.read_bytes()
    monkeypatch.setattr(soundness, "WHOLE_BYTES", soundness.WHOLE_BYTES if whole else 0)
    # Every leaf is looked at: with so few of them there are places for all.
    monkeypatch.setattr(soundness, "_PLACES", ROWS)
    with pytest.raises(StoreError, match=r"jobs\.db cannot be used"):
        open_owner(store)
    assert store.read_bytes() == before


def test_a_sound_store_is_opened_however_large_it_is(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundness, "WHOLE_BYTES", 0)
    close_owner(open_owner(store))
