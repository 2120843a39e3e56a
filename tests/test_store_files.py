"""Opening a store: made whole or not at all, refused by name when it is not ours, locked by the kernel."""

import contextlib
import errno
import fcntl
import gzip
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchrunner.errors import Exit, StoreError, StoreLockedError, UsageError
from batchrunner.spool import spooled
from batchrunner.store import files
from batchrunner.store.files import close_owner, lock_path, open_owner, open_reader, owned, store_path
from batchrunner.store.place import Place
from batchrunner.store.schema import APPLICATION_ID, SCHEMA_VERSION
from builders import dump, numbered, opened_store, take_in

NOBODY = 65_534
_HOLD = """
import sys
from pathlib import Path
from batchrunner.store.files import owned
with owned(Path(sys.argv[1])):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""
_TRY = """
import sys
from pathlib import Path
from batchrunner.errors import StoreLockedError
from batchrunner.store.files import owned
try:
    with owned(Path(sys.argv[1])):
        pass
except StoreLockedError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with three requests, closed."""
    path = tmp_path / "jobs.db"
    with opened_store(path) as conn:
        take_in(conn, numbered(3))
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def as_plain_user() -> Iterator[None]:
    """Nothing is forbidden to root, so be nobody for a while if we are root."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can reach and write to."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    path.chmod(0o777)
    shutil.rmtree(path)


# Where a store lies, and who may read it.


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("jobs.jsonl", "jobs.db"),
        ("a/b/rows.csv", "a/b/rows.db"),
        ("jobs", "jobs.db"),
        ("jobs.2026.jsonl", "jobs.2026.db"),
        ("jobs.db", "jobs.db"),
        ("jobs.sqlite", "jobs.sqlite"),
        ("jobs.sqlite3", "jobs.sqlite3"),
    ],
)
def test_a_job_file_and_its_store_lead_to_the_same_store(given: str, expected: str) -> None:
    assert store_path(Path(given)) == Path(expected)
    assert lock_path(Path("a/jobs.db")) == Path("a/jobs.db.lock")


def test_nobody_else_may_read_what_a_run_writes(tmp_path: Path) -> None:
    """Prompts and answers are private, whatever the umask."""
    path = tmp_path / "jobs.db"
    with umask(0), owned(path):
        conn = open_owner(path)
        take_in(conn, numbered(3))
        written = sorted(file.name for file in tmp_path.iterdir())
        modes = {mode(file) for file in tmp_path.iterdir()}
        close_owner(conn)
    assert written == ["jobs.db", "jobs.db-shm", "jobs.db-wal", "jobs.db.lock"]
    assert modes == {0o600}


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux keeps hold of a removed file")
def test_nobody_else_may_read_a_copy_of_a_store(tmp_path: Path) -> None:
    """Neither the one from before an upgrade nor the one of a store that was removed, also where all can read the store."""
    path = tmp_path / "jobs.db"
    with gzip.open(Path(__file__).parent / "stores" / "schema-1.db.gz") as packed:
        path.write_bytes(packed.read())
    path.chmod(0o666)
    with umask(0), owned(path), contextlib.closing(open_owner(path)) as conn, Place(path) as place:
        path.unlink()
        with pytest.raises(StoreError, match="saved in"):
            place.conclude(conn)
    copies = [*tmp_path.glob("*.schema-1"), *tmp_path.glob("*.saved.db")]
    assert [mode(copy) for copy in copies] == [0o600, 0o600]


async def test_nobody_else_may_read_requests_on_their_way_from_python(tmp_path: Path) -> None:
    with umask(0):
        async with spooled(["One"], tmp_path / "jobs.db") as path:
            assert mode(path) == 0o600
            assert path.read_bytes() == b'"One"\n'


def test_a_new_store_has_our_marks_and_pragmas(tmp_path: Path) -> None:
    with opened_store(tmp_path / "jobs.db") as conn:
        marks = [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        journal = conn.execute("PRAGMA journal_mode").fetchone()[0]
    assert marks == [APPLICATION_ID, SCHEMA_VERSION]
    assert journal == "wal"


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("fast", 1)])
def test_durability_decides_what_a_commit_waits_for(tmp_path: Path, durability: str, synchronous: int) -> None:
    conn = open_owner(tmp_path / "jobs.db", durability=durability)
    assert conn.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    close_owner(conn)


def test_a_store_opened_again_is_the_same_and_its_log_is_folded(store: Path) -> None:
    with opened_store(store) as conn:
        before = dump(conn, "requests", "inputs", "job")
    assert not store.with_name("jobs.db-wal").exists()
    with opened_store(store) as conn:
        assert dump(conn, "requests", "inputs", "job") == before


# Files that are no store of ours.


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.commit()


def newer(path: Path) -> None:
    with opened_store(path) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1:d}")


def empty_database(path: Path) -> None:
    """Another program's, before its first table: in WAL mode it has a header."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchall()


def half(path: Path) -> None:
    with opened_store(path) as conn:
        take_in(conn, numbered(200))
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def header_only(path: Path) -> None:
    half(path)
    os.truncate(path, 100)


_STRANGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "is empty"),
    "text": (lambda path: path.write_text('{"prompt": "Say hello."}\n' * 100), "is not a SQLite file"),
    "short": (lambda path: path.write_bytes(b"SQLite"), "is not a SQLite file"),
    "garbage": (lambda path: path.write_bytes(b"SQLite format 3\0" + random.Random(1).randbytes(8000)), "jobs.db"),
    "foreign": (foreign, "another program"),
    "foreign and empty": (empty_database, "another program"),
    "newer": (newer, "newer batchrunner"),
    "half": (half, "recover"),
    "header only": (header_only, "jobs.db"),
    "directory": (lambda path: path.mkdir(), "is not a file"),
}


@pytest.mark.parametrize("name", _STRANGERS)
@pytest.mark.parametrize("opening", [open_owner, open_reader])
def test_what_is_no_store_of_ours_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, name: str, opening: Callable[[Path], sqlite3.Connection]
) -> None:
    make, reason = _STRANGERS[name]
    path = tmp_path / "jobs.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    refused: StoreError | None = None
    try:
        opening(path).close()
    except StoreError as error:
        refused = error
    if name == "half" and opening is open_reader:
        return  # a reader does not look for damage in advance
    assert refused is not None
    assert refused.exit_code is Exit.STORE
    assert str(path) in str(refused)
    assert reason in str(refused)
    assert (path.read_bytes() if path.is_file() else None) == before
    left = {file.name for file in tmp_path.iterdir()}
    # A connection that may not write makes the log's files and cannot remove them.
    assert left - ({"jobs.db-wal", "jobs.db-shm"} if opening is open_reader else set()) == {"jobs.db"}


def test_any_flipped_byte_gives_a_store_or_a_store_error(store: Path, tmp_path: Path) -> None:
    whole, rng = store.read_bytes(), random.Random(3)
    places = [*range(16, 100, 3), *(rng.randrange(len(whole)) for _ in range(60))]
    refused = 0
    for place in places:
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        try:
            close_owner(open_owner(damaged))
        except StoreError as error:
            assert str(damaged) in str(error)  # noqa: PT017 - most flips do no harm, so nothing need be raised
            refused += 1
        for leftover in tmp_path.glob("damaged.db*"):
            leftover.unlink()
    assert refused > 5


def test_a_reader_of_a_missing_store_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no store .*jobs\.db yet; `batchrunner run` makes it"):
        open_reader(tmp_path / "jobs.db")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_cannot_write(store: Path) -> None:
    with contextlib.closing(open_reader(store)) as conn, pytest.raises(sqlite3.OperationalError):
        conn.execute("DELETE FROM requests")


def test_a_reader_reads_while_the_owner_writes(store: Path) -> None:
    with opened_store(store) as owner, contextlib.closing(open_reader(store)) as reader:
        owner.execute("BEGIN IMMEDIATE")
        owner.execute("DELETE FROM requests")
        assert reader.execute("SELECT count(*) FROM requests").fetchone()[0] == 3
        owner.execute("ROLLBACK")


def test_a_store_held_by_a_foreign_transaction_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BUSY_TIMEOUT_S", 0.01)
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as browser:
        browser.execute("PRAGMA locking_mode = EXCLUSIVE")
        browser.execute("BEGIN EXCLUSIVE")
        browser.execute("UPDATE job SET requests = requests")
        with pytest.raises(StoreError, match="locked by another program"):
            open_owner(store)


# Making one.


def test_what_a_killed_creation_left_behind_is_swept_away(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    (tmp_path / "jobs.db.new").write_bytes(b"SQLite format 3\0 and half a page")
    (tmp_path / "jobs.db.new-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    with opened_store(path) as conn:
        take_in(conn, numbered(3))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["jobs.db"]


def test_a_store_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(db: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    path = tmp_path / "jobs.db"
    with monkeypatch.context() as broken:
        broken.setattr(files, "migrate", break_off)
        with pytest.raises(StoreError, match=r"jobs\.db cannot be made: disk I/O error"):
            open_owner(path)
    assert not path.exists()
    close_owner(open_owner(path))
    assert path.exists()


def test_a_draft_that_is_a_link_to_another_file_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "jobs.db.new").symlink_to(precious)
    close_owner(open_owner(tmp_path / "jobs.db"))
    assert precious.read_text() == "mine"


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.db.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"jobs\.db\.lock"), owned(tmp_path / "jobs.db"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_in_a_directory_that_cannot_be_written_there_is_no_run(shared: Path) -> None:
    shared.chmod(0o555)
    with as_plain_user():
        with pytest.raises(StoreError, match=r"jobs\.db\.lock cannot be written"), owned(shared / "jobs.db"):
            pass
        with pytest.raises(StoreError, match=r"jobs\.db cannot be made"):
            open_owner(shared / "jobs.db")


def test_a_store_in_a_directory_that_cannot_be_written_can_be_read(shared: Path) -> None:
    path = shared / "jobs.db"
    with opened_store(path) as conn:
        take_in(conn, numbered(3))
    path.chmod(0o444)
    shared.chmod(0o555)
    with as_plain_user(), contextlib.closing(open_reader(path)) as reader:
        assert reader.execute("SELECT count(*) FROM requests").fetchone()[0] == 3


def test_a_read_only_store_is_refused_by_the_owner_and_left_as_it_is(shared: Path) -> None:
    path = shared / "jobs.db"
    with opened_store(path) as conn:
        take_in(conn, numbered(3))
    path.chmod(0o444)
    before = path.read_bytes()
    with as_plain_user(), pytest.raises(StoreError, match=r"jobs\.db is read-only"):
        open_owner(path)
    assert path.read_bytes() == before


def test_a_store_of_somebody_else_is_refused_by_name(shared: Path) -> None:
    path = shared / "jobs.db"
    with opened_store(path):
        pass
    path.chmod(0o000)
    with as_plain_user():
        for opening in (open_owner, open_reader):
            with pytest.raises(StoreError, match=r"jobs\.db (is read-only|cannot be used)"):
                opening(path)


# One owner.


def held_by(path: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock of the store at *path* until its standard input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_told_who_owns_the_store(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with owned(path):
        second = subprocess.run([sys.executable, "-c", _TRY, str(path)], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"{path} is in use by process {os.getpid()} on {os.uname().nodename}" in second.stderr


def test_the_lock_is_free_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with held_by(path) as holder:
        with pytest.raises(StoreLockedError, match=f"process {holder.pid} on") as refused, owned(path):
            pass
        assert refused.value.exit_code is Exit.STORE
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    assert lock_path(path).exists()
    with owned(path):
        pass


def test_a_file_system_without_locks_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StoreError, match=r"jobs\.db\.lock cannot be locked \(No locks available\)") as refused,
        owned(tmp_path / "jobs.db"),
    ):
        pass
    assert not isinstance(refused.value, StoreLockedError)


def test_an_owner_whose_name_is_not_known_yet_still_owns(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with owned(path):
        lock_path(path).write_text("")
        with pytest.raises(StoreLockedError, match="another process"), owned(path):
            pass


def test_a_log_without_its_store_is_not_played_into_a_new_one(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    wal = tmp_path / "other.db-wal"
    with contextlib.closing(open_owner(store)) as conn:
        conn.execute("CREATE TABLE later (x)")
        shutil.copy(f"{store}-wal", wal)
    left = wal.read_bytes()
    assert left
    with pytest.raises(StoreError, match=r"other\.db-wal was left behind"):
        open_owner(path)
    assert wal.read_bytes() == left
    assert not path.exists()


def test_a_store_has_one_lock_whatever_link_leads_there(store: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(store)
    with owned(store), pytest.raises(StoreLockedError), owned(link):
        pass
