"""A disk that is full, in real file systems and under a real run: nothing is lost, nothing is paid for twice."""

import contextlib
import errno
import json
import re
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.commands import Yard, until, yard
from running import WatchedLedger, job_file, rows, simulator_thread

SLOTS = 10
REQUESTS = 200
#: Whoever waits ten minutes for room would wait for these tests too.
QUICK = {"batchrunner.store.refusal.REFUSED_RETRY_S": 0.2}
IMPATIENT = {**QUICK, "batchrunner.store.refusal.REFUSED_PATIENCE_S": 1.0}
LOCK = {"batchrunner.store.refusal.LOCK_UNTOLD_S": 0.2, "batchrunner.store.refusal.LOCK_WAIT_S": 0.2}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of sixteen megabytes: the log alone takes four."""
    here = tmp_path / "disk"
    here.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(here)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield here
    subprocess.run(["umount", "-l", str(here)], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Yard]:
    with yard(tmp_path / "run") as opened:
        job_file(opened.folder / "jobs.jsonl", [f"Question {i}" for i in range(REQUESTS)])
        yield opened


def fill(disk: Path) -> Path:
    """Use up every byte of *disk*; removing what is returned makes room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    with pytest.raises(OSError, match=r".") as full, (disk / "more").open("wb", buffering=0) as more:
        more.write(bytes(8192))
    assert full.value.errno == errno.ENOSPC
    (disk / "more").unlink(missing_ok=True)
    return ballast


def rescued(said: str) -> Path:
    """Return the file that the run named."""
    found = re.search(r"finished answers? (?:is|are) kept in (\S+\.rescue\.jsonl)", said)
    assert found, said
    return Path(found[1])


def idle(ledger: WatchedLedger) -> bool:
    return ledger.arrivals == ledger.ends


def test_a_full_disk_holds_the_run_until_there_is_room_again(disk: Path, place: Yard, tmp_path: Path) -> None:
    store = disk / "jobs.db"
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, "--db", str(store), slots=SLOTS, constants=QUICK)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        ballast = fill(disk)
        run.wait_for("the store cannot be written (database or disk is full): sending is on hold")
        ledger.wait_until(idle)
        sent = ledger.arrivals
        saved = rows(store, "SELECT succeeded FROM job")[0][0]
        assert sent - saved <= SLOTS, "what waits in memory is what was in flight"
        time.sleep(1.0)  # nothing is to happen: there is no event to wait for
        assert ledger.arrivals == sent, "something was sent although it could not be saved"
        ballast.unlink()
        assert run.finish() == 0, run.said()
        assert "the store can be written again" in run.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store)
    assert (verdict.paid, verdict.paid_twice) == (REQUESTS, 0)
    assert not list(place.folder.glob("*.rescue.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_one_signal_ends_a_run_on_a_full_disk_and_the_next_run_takes_its_answers_in(
    disk: Path, place: Yard, tmp_path: Path, number: int
) -> None:
    store = disk / "jobs.db"
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, "--db", str(store), "--drain", "1", slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        ballast = fill(disk)
        run.wait_for("sending is on hold")
        ledger.wait_until(idle)
        run.signal(number)
        asked = time.monotonic()
        assert run.finish() == 5, run.said()
        assert time.monotonic() - asked < 4, "the drain is a second"
        file = rescued(run.said())
        assert file.parent == place.folder, "the disk of the store is full"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        answers = sum("settled" in json.loads(line) for line in file.read_bytes().splitlines())
        assert ledger.arrivals - rows(store, "SELECT succeeded FROM job")[0][0] == answers > 0
        too_early = place.run(url, "--db", str(store), slots=SLOTS)
        assert too_early.finish() == 5
        assert str(disk) in too_early.said()
        assert "make room" in too_early.said()
        assert file.exists()
        ballast.unlink()
        again = place.run(url, "--db", str(store), slots=SLOTS)
        assert again.finish() == 0, again.said()
        assert f"{answers} answer" in again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store)
    assert (verdict.paid, verdict.paid_twice, verdict.listed) == (REQUESTS, 0, 0)
    assert not file.exists()


def test_a_second_signal_on_a_full_disk_waits_no_longer(disk: Path, place: Yard, tmp_path: Path) -> None:
    store = disk / "jobs.db"
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, "--db", str(store), slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        ballast = fill(disk)
        run.wait_for("sending is on hold")
        ledger.wait_until(idle)
        run.signal(signal.SIGINT)
        run.wait_for("stopping")
        run.signal(signal.SIGINT)
        asked = time.monotonic()
        assert run.finish() == 5, run.said()
        assert time.monotonic() - asked < 2
        ballast.unlink()
        again = place.run(url, "--db", str(store), slots=SLOTS)
        assert again.finish() == 0, again.said()
        assert place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store).paid_twice == 0


def test_a_disk_that_stays_full_is_given_up_and_what_is_in_flight_is_rescued_too(
    disk: Path, place: Yard, tmp_path: Path
) -> None:
    store, requests = disk / "jobs.db", 50
    job_file(place.folder / "jobs.jsonl", [f"Question {i}" for i in range(requests)])
    with simulator_thread("latency=0.05..3,seed=4", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, "--db", str(store), slots=SLOTS, constants=IMPATIENT)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        ballast = fill(disk)
        run.wait_for("it is given up")
        assert ledger.arrivals > ledger.ends, "nothing was in flight any more: nothing is shown"
        assert run.finish() == 5, run.said()
        ledger.wait_until(idle)
        rescued(run.said())
        ballast.unlink()
        again = place.run(url, "--db", str(store), slots=SLOTS)
        assert again.finish() == 0, again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store)
    assert (verdict.paid, verdict.paid_twice, verdict.listed) == (requests, 0, 0)


def test_a_foreign_lock_is_waited_for(place: Yard, tmp_path: Path) -> None:
    store = place.folder / "jobs.db"
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS, constants=LOCK)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            run.wait_for("the store cannot be written (database is locked)")
            ledger.wait_until(idle)
            sent = ledger.arrivals
            assert "another program holds it in a transaction" in run.said()
            assert rows(store, "SELECT count(*) FROM requests") == [(REQUESTS,)], "reading works"
            time.sleep(0.5)  # as above
            assert ledger.arrivals == sent
            browser.execute("ROLLBACK")
        assert run.finish() == 0, run.said()
        assert place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store).paid_twice == 0


def test_a_foreign_lock_that_stays_is_given_up_and_nothing_is_lost(place: Yard, tmp_path: Path) -> None:
    store = place.folder / "jobs.db"
    patience = {**LOCK, "batchrunner.store.refusal.LOCKED_PATIENCE_S": 1.0}
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS, constants=patience)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as browser:
            browser.execute("BEGIN IMMEDIATE")
            assert run.finish() == 5, run.said()
            browser.execute("ROLLBACK")
        assert rescued(run.said()).parent == place.folder
        again = place.run(url, slots=SLOTS)
        assert again.finish() == 0, again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, store=store)
    assert (verdict.paid, verdict.paid_twice, verdict.listed) == (REQUESTS, 0, 0)


def test_a_small_disk_is_warned_of_before_anything_is_paid_for(disk: Path, place: Yard, tmp_path: Path) -> None:
    store = disk / "jobs.db"
    job_file(place.folder / "many.jsonl", [f"Question {i}" for i in range(1500)])
    with simulator_thread("latency=0.01", tmp_path / "ledger.jsonl") as (url, _):
        for job, options, warned in (("jobs.jsonl", [], False), ("many.jsonl", ["--first", "5"], False)):
            run = place.run(url, "--db", str(store.with_stem(job)), *options, job=job)
            assert run.finish() == 0, run.said()
            assert ("the disk of" in run.said()) is warned
        run = place.run(url, "--db", str(store.with_stem("many.jsonl")), job="many.jsonl")
        run.wait_for("warning: the disk of")
        run.signal(signal.SIGINT)
        run.finish()
    assert "1,495 answers may take 6.1 MB or more" in run.said()


def test_a_job_file_that_does_not_fit_is_refused_before_anything_is_sent(disk: Path, place: Yard) -> None:
    store = disk / "jobs.db"
    job_file(place.folder / "jobs.jsonl", ["x" * 20_000 + str(i) for i in range(1000)])
    with simulator_thread() as (url, ledger):
        run = place.run(url, "--db", str(store))
        assert run.finish() == 5
        assert "cannot be written: database or disk is full. Nothing was sent." in run.said()
        assert "Traceback" not in run.said()
        assert ledger.arrivals == 0
        job_file(place.folder / "jobs.jsonl", ["short"])
        again = place.run(url, "--db", str(store))
        assert again.finish() == 0, again.said()


def test_every_place_being_full_is_said_plainly(disk: Path, tmp_path: Path) -> None:
    """Job, store, home and temporary files on one disk: then answers are lost, and the run says so and ends."""
    with yard(disk / "run") as place:
        job_file(place.folder / "jobs.jsonl", [f"Question {i}" for i in range(REQUESTS)])
        env = {"HOME": str(disk), "TMPDIR": str(disk), "XDG_STATE_HOME": str(disk / "state")}
        nowhere = {"batchrunner.store.rescue.LASTING": disk / "lasting"}
        with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
            run = place.run(url, slots=SLOTS, env=env, constants={**IMPATIENT, **nowhere})
            ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
            # What is said goes to this disk too, so room for a few lines of it is kept.
            run.stderr.write_bytes(bytes(0))
            ballast = fill(disk)
            until(lambda: not run.lives, "the run ends")
            assert run.finish() == 5
            ballast.unlink()
            again = place.run(url, slots=SLOTS)
            assert again.finish() == 0, again.said()
            verdict = place.judged(tmp_path / "ledger.jsonl", kills=1, slots=SLOTS)
    assert 0 < verdict.paid_twice <= SLOTS
