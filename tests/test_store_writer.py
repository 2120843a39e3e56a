"""The writer: few commits for many submitters, nothing lost, nothing twice, one bad row alone."""

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrunner.errors import StoreError
from batchrunner.store import refusal
from batchrunner.store.changes import Settled, Started
from batchrunner.store.writer import Change, Writer
from builders import AT, attempt, numbered, opened_store, rows, settlement, success, take_in


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def conn(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A store with 200 pending requests and a table `noted` that takes any row once."""
    for name in ("REFUSED_RETRY_S", "LOCK_RETRY_S", "LOCK_WAIT_S"):
        monkeypatch.setattr(refusal, name, 0.01)
    monkeypatch.setattr(refusal, "LOCK_UNTOLD_S", 0.0)
    with opened_store(store) as conn:
        take_in(conn, numbered(200))
        conn.execute("CREATE TABLE noted (value PRIMARY KEY, CHECK (value <> 'bad'))")
        yield conn


@dataclass(eq=False)
class Note:
    """A change that inserts one value."""

    value: Any

    def write(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("INSERT INTO noted VALUES (?)", (self.value,))


class Complaints(list[str]):
    """What the user was told, and an event for the first of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = anyio.Event()

    def __call__(self, sentence: str) -> None:
        self.append(sentence)
        self.first.set()


def no_complaint(sentence: str) -> None:
    raise AssertionError(sentence)


def commits_of(conn: sqlite3.Connection) -> list[str]:
    """Return a list that gains an entry with each commit from now on."""
    commits: list[str] = []
    conn.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    return commits


def noted(conn: sqlite3.Connection) -> list[Any]:
    return [value for (value,) in rows(conn, "SELECT value FROM noted ORDER BY rowid")]


# Groups.


async def test_many_submitters_share_few_commits(conn: sqlite3.Connection) -> None:
    commits = commits_of(conn)
    writer = Writer(conn, complain=no_complaint)

    async def note(value: int) -> None:
        change = Note(value)
        await writer.submit(change).committed(change)

    async with writer.running(), anyio.create_task_group() as group:
        for value in range(200):
            group.start_soon(note, value)
    assert noted(conn) == list(range(200))
    assert len(commits) <= 3


async def test_a_waiter_wakes_only_when_others_can_see_its_change(conn: sqlite3.Connection, store: Path) -> None:
    writer = Writer(conn, complain=no_complaint)
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as other:

        async def note(value: int) -> None:
            change = Note(value)
            await writer.submit(change).committed(change)
            assert other.execute("SELECT count(*) FROM noted WHERE value = ?", (value,)).fetchone() == (1,)

        async with writer.running(), anyio.create_task_group() as group:
            for value in range(50):
                group.start_soon(note, value)
                await anyio.lowlevel.checkpoint()


async def test_changes_are_written_in_the_order_of_submission(conn: sqlite3.Connection) -> None:
    """An attempt's start before its end, across groups too."""
    writer = Writer(conn, complain=no_complaint)
    async with writer.running():
        for seq in range(1, 101):
            writer.submit(Started(attempt(seq), 1, AT))
            writer.submit(Settled(settlement(attempt(seq))))
            if seq % 7 == 0:
                await anyio.lowlevel.checkpoint()
    assert rows(conn, "SELECT count(*) FROM attempts WHERE ended_at IS NOT NULL") == [(100,)]
    assert rows(conn, "SELECT succeeded FROM job") == [(100,)]


async def test_what_is_submitted_during_a_commit_is_in_the_next_one(conn: sqlite3.Connection) -> None:
    writer = Writer(conn, complain=no_complaint)
    async with writer.running():
        first = writer.submit(Note(1))
        await anyio.lowlevel.checkpoint()
        second = writer.submit(Note(2))
        assert second is not first
        await second.done.wait()
        assert first.done.is_set()
    assert noted(conn) == [1, 2]


# Waiters that go away, blocks that end.


async def test_a_change_is_written_although_its_submitter_was_cancelled(conn: sqlite3.Connection) -> None:
    """An answer that arrived was paid for."""
    writer = Writer(conn, complain=no_complaint)
    async with writer.running():
        change = Note("paid")
        with anyio.CancelScope() as scope:
            group = writer.submit(change)
            scope.cancel()
            await group.committed(change)
        assert scope.cancelled_caught
    assert noted(conn) == ["paid"]


async def test_what_is_waiting_is_written_when_the_block_ends(conn: sqlite3.Connection) -> None:
    writer = Writer(conn, complain=no_complaint)
    async with writer.running():
        for value in range(10):
            writer.submit(Note(value))
    assert noted(conn) == list(range(10))


async def test_what_is_waiting_is_written_when_the_block_raises(conn: sqlite3.Connection) -> None:
    writer = Writer(conn, complain=no_complaint)

    async def work() -> None:
        async with writer.running():
            writer.submit(Note(1))
            raise LookupError("something else went wrong")

    with pytest.raises(ExceptionGroup) as raised:
        await work()
    assert raised.group_contains(LookupError)
    assert noted(conn) == [1]


async def test_what_is_waiting_is_written_when_the_whole_run_is_cancelled(conn: sqlite3.Connection) -> None:
    writer = Writer(conn, complain=no_complaint)
    with anyio.CancelScope() as scope:
        async with writer.running():
            writer.submit(Note(1))
            await anyio.lowlevel.checkpoint()
            writer.submit(Note(2))
            scope.cancel()
            await anyio.sleep_forever()
    assert noted(conn) == [1, 2]


async def test_a_writer_with_nothing_to_write_commits_nothing(conn: sqlite3.Connection) -> None:
    commits = commits_of(conn)
    async with Writer(conn, complain=no_complaint).running():
        pass
    assert commits == []


# Rows that cannot be written.


@pytest.mark.parametrize(
    "bad", ["\ud800", 2**63, "bad", object(), 1], ids=["surrogate", "huge", "check", "type", "twice"]
)
@pytest.mark.parametrize("place", [0, 5, 10])
async def test_a_row_that_cannot_be_written_is_refused_alone(conn: sqlite3.Connection, bad: Any, place: int) -> None:
    good = [Note(value) for value in range(1, 11)]
    spoiled = Note(bad)
    notes = [*good[:place], spoiled, *good[place:]]
    if bad == 1 and place == 0:
        notes = [*good, spoiled]
    writer = Writer(conn, complain=no_complaint)
    async with writer.running():
        groups = [writer.submit(note) for note in notes]
        for note, group in zip(notes, groups, strict=True):
            if note is spoiled:
                with pytest.raises(StoreError, match="The store refused a row") as refused:
                    await group.committed(note)
                assert refused.value.__cause__ is not None
            else:
                await group.committed(note)
    assert noted(conn) == list(range(1, 11))


async def test_several_bad_rows_in_one_group_are_each_refused(conn: sqlite3.Connection) -> None:
    notes = [Note("bad" if value % 3 == 0 else value) for value in range(64)]
    writer = Writer(conn, complain=no_complaint)
    refused = 0
    async with writer.running():
        groups = [writer.submit(note) for note in notes]
        for note, group in zip(notes, groups, strict=True):
            try:
                await group.committed(note)
            except StoreError:
                assert note.value == "bad"
                refused += 1
    assert refused == 22
    assert noted(conn) == [value for value in range(64) if value % 3]


async def test_a_settlement_that_is_refused_leaves_nothing_of_itself(conn: sqlite3.Connection) -> None:
    """Its attempt's end goes back with its answer; the neighbours in the group stand."""
    writer = Writer(conn, complain=no_complaint)
    unstorable = Settled(settlement(attempt(2), success("\ud800")))
    async with writer.running():
        for seq in (1, 2, 3):
            writer.submit(Started(attempt(seq), 1, AT))
        writer.submit(Settled(settlement(attempt(1))))
        group = writer.submit(unstorable)
        writer.submit(Settled(settlement(attempt(3))))
        with pytest.raises(StoreError):
            await group.committed(unstorable)
    assert rows(conn, "SELECT seq, ended_at IS NULL FROM attempts") == [(1, 0), (2, 1), (3, 0)]
    assert rows(conn, "SELECT seq FROM results") == [(1,), (3,)]
    assert rows(conn, "SELECT succeeded, failed FROM job") == [(2, 0)]


# A disk that refuses.


@contextlib.contextmanager
def held(store: Path) -> Iterator[sqlite3.Connection]:
    """Hold the store in a foreign transaction, as a database browser does; `ROLLBACK` lets go."""
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield foreign


async def test_a_locked_store_is_waited_for_and_complained_about_once(conn: sqlite3.Connection, store: Path) -> None:
    complaints = Complaints()
    writer = Writer(conn, complain=complaints)
    tries = 0

    def count(sql: str) -> None:
        nonlocal tries
        tries += sql.startswith("BEGIN")

    conn.set_trace_callback(count)
    with held(store) as foreign:
        async with writer.running():
            changes = [Note(value) for value in range(5)]
            group, *_ = [writer.submit(change) for change in changes]
            await complaints.first.wait()
            later = Note("later")
            next_group = writer.submit(later)
            with anyio.fail_after(10):
                while tries < 4:
                    await anyio.lowlevel.checkpoint()
            assert not group.done.is_set()
            foreign.execute("ROLLBACK")
            for change in changes:
                await group.committed(change)
            await next_group.committed(later)
    assert noted(conn) == [*range(5), "later"]
    assert len(complaints) == 2
    assert "cannot be written (database is locked): sending is on hold, 5 changes wait" in complaints[0]
    assert "for 60 s; another program holds it in a transaction" in complaints[0]
    assert "going on" in complaints[1]


async def test_an_error_of_the_disk_in_mid_group_is_tried_again_and_nothing_is_written_twice(
    conn: sqlite3.Connection,
) -> None:
    complaints = Complaints()
    disk = FullDisk(refusals=3)
    writer = Writer(conn, complain=complaints)
    async with writer.running():
        before, after = [Note(value) for value in range(5)], [Note(value) for value in range(5, 9)]
        changes: list[Change] = [*before, disk, Note("bad"), *after]
        for change in changes:
            writer.submit(change)
    assert noted(conn) == list(range(9))
    assert disk.refusals == 0
    assert len(complaints) == 2


@dataclass(eq=False)
class FullDisk:
    """A change that the disk refuses so many times."""

    refusals: int

    def write(self, cursor: sqlite3.Cursor) -> None:
        if self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError("database or disk is full")


async def test_a_disk_that_refuses_for_too_long_ends_the_run(
    conn: sqlite3.Connection, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "LOCKED_PATIENCE_S", 0.05)
    complaints = Complaints()
    writer = Writer(conn, complain=complaints)
    with held(store):
        async with writer.running():
            early = Note(1)
            with pytest.raises(StoreError, match=r"The store failed: database is locked"):
                await writer.submit(early).committed(early)
            late = Note(2)
            with pytest.raises(StoreError, match="The store failed"):
                await writer.submit(late).committed(late)
    assert noted(conn) == []
    assert len(complaints) == 2
    assert "is given up" in complaints[1]


_FULL = """
import json, resource, sys
from functools import partial
import anyio
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from builders import AT, attempt, numbered, opened_store, settlement, success, take_in
from batchrunner.store import refusal
from batchrunner.store.changes import Settled, Started
from batchrunner.store.writer import Change, Writer

refusal.REFUSED_RETRY_S = 0.01

async def main(conn, store):
    told, noticed = [], anyio.Event()
    def complain(sentence):
        told.append(sentence)
        noticed.set()
    writer = Writer(conn, complain=complain)
    acknowledged = []
    async def settle(seq):
        started, settled = Started(attempt(seq), 1, AT), Settled(settlement(attempt(seq), success("x" * 20_000)))
        writer.submit(started)
        await writer.submit(settled).committed(settled)
        acknowledged.append(seq)
    async with writer.running():
        async with anyio.create_task_group() as group:
            for seq in range(1, 11):
                await settle(seq)
            size = store.with_name(store.name + "-wal").stat().st_size
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, hard))
            for seq in range(11, 31):
                group.start_soon(settle, seq)
            await noticed.wait()
            before = list(acknowledged)
            visible = [seq for (seq,) in conn.execute("SELECT seq FROM requests WHERE state = 'succeeded'")]
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    json.dump({"told": told, "before": sorted(before), "visible": visible, "after": sorted(acknowledged)}, sys.stdout)

store = Path(sys.argv[1])
with opened_store(store) as conn:
    take_in(conn, numbered(30))
    anyio.run(main, conn, store)
"""


def test_a_full_disk_loses_nothing_and_the_same_connection_goes_on(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: a real write that really fails, in a process of its own."""
    store = tmp_path / "jobs.db"
    command = [sys.executable, "-c", _FULL, str(store), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["before"] == report["visible"], "what was acknowledged is there, and what is there was acknowledged"
    assert len(report["before"]) < 30
    assert report["after"] == list(range(1, 31))
    assert ["cannot be written" in report["told"][0], len(report["told"])] == [True, 2]
    with opened_store(store) as conn:
        assert rows(conn, "SELECT count(*), sum(length(text)) FROM results") == [(30, 600_000)]
        assert rows(conn, "SELECT succeeded, failed FROM job") == [(30, 0)]
        assert rows(conn, "PRAGMA integrity_check") == [("ok",)]


# A store that is given up.


class Kept(list[Any]):
    """Stands where a rescue file does, and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = [Path("kept.rescue.jsonl")]

    def keep(self, changes: list[Any]) -> None:
        self.extend(changes)

    def told(self, why: StoreError) -> StoreError:
        return StoreError(f"{why} See {self.paths[0]}.")


async def test_a_ruined_store_is_given_up_at_once_and_all_that_comes_is_rescued(conn: sqlite3.Connection) -> None:
    ruined = sqlite3.DatabaseError("database disk image is malformed")
    ruined.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    class Ruined:
        def write(self, cursor: sqlite3.Cursor) -> None:
            raise ruined

    kept, given_up, complaints = Kept(), list[str](), Complaints()
    writer = Writer(conn, complain=complaints, rescue=kept, given_up=lambda: given_up.append("once"))  # type: ignore[arg-type]
    first, second, third = Note(1), Ruined(), Note(3)
    async with writer.running():
        group = writer.submit(first)
        await group.committed(first)
        group = writer.submit(second)
        await group.committed(second)
        assert group.rescued, "whoever waited for it goes on: it is safe, though not in the store"
        late = writer.submit(third)
        await late.committed(third)
        assert late.rescued
    assert kept == [second, third]
    assert given_up == ["once"]
    assert noted(conn) == [1]
    with pytest.raises(StoreError, match=r"The store failed: database disk image is malformed. See kept.rescue"):
        writer.check()


async def test_a_stop_cuts_the_waiting_short(conn: sqlite3.Connection, store: Path) -> None:
    kept, complaints = Kept(), Complaints()
    writer = Writer(conn, complain=complaints, rescue=kept)  # type: ignore[arg-type]
    with held(store):
        with anyio.fail_after(10):
            async with writer.running():
                change = Note(1)
                group = writer.submit(change)
                await complaints.first.wait()
                assert not writer.is_steady
                writer.hurry(0.05)
                await group.committed(change)
    assert kept == [change]
