"""Other hands on the store and on the job file while a run has them: told at once, nothing lost, nothing overwritten."""

import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.commands import Yard, yard
from faults.crowds import one_of_twenty
from running import job_file, rows, simulator_thread

REQUESTS = 120
SLOTS = 10


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Yard]:
    with yard(tmp_path / "run") as opened:
        job_file(opened.folder / "jobs.jsonl", [f"Question {i}" for i in range(REQUESTS)])
        yield opened


# Several runs.


def test_of_twenty_runs_started_at_once_exactly_one_proceeds(place: Yard, tmp_path: Path) -> None:
    with simulator_thread("latency=0.5", tmp_path / "ledger.jsonl") as (url, _):
        owner = one_of_twenty(place, url)
        owner.signal(signal.SIGINT)
        assert owner.finish() == 130
        assert place.run(url, slots=60).finish() == 0
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=2)
    assert verdict.paid_twice == 0


def test_a_run_that_is_locked_out_says_so_within_a_second(place: Yard) -> None:
    with simulator_thread("latency=0.5") as (url, ledger):
        owner = place.run(url)
        ledger.wait_until(lambda ledger: ledger.arrivals > 0)
        took = []
        for _ in range(3):  # a busy machine may hold up one of them
            began = time.monotonic()
            second = place.run(url)
            assert second.finish() == 5
            took.append(time.monotonic() - began)
            assert f"process {owner.pid} on" in second.said()
        assert min(took) < 1, "without the start of Python"


def test_a_killed_owner_is_followed_at_once(place: Yard, tmp_path: Path) -> None:
    with simulator_thread("latency=0.2", tmp_path / "ledger.jsonl") as (url, ledger):
        owner = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        owner.kill()
        again = place.run(url, slots=SLOTS)
        sent = ledger.arrivals
        ledger.wait_until(lambda ledger: ledger.arrivals > sent, 5)
        assert again.finish() == 0
        place.judged(tmp_path / "ledger.jsonl", kills=1, slots=SLOTS)


def test_a_suspended_owner_keeps_its_store_and_goes_on(place: Yard, tmp_path: Path) -> None:
    """The kernel's lock alone decides: nobody can take the store from a process that lives, so none is ever fenced off."""
    quick = {"batchrunner.keeping.SLEPT_S": 1.0}
    with simulator_thread("latency=0.2", tmp_path / "ledger.jsonl") as (url, ledger):
        owner = place.run(url, slots=SLOTS, constants=quick)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        owner.signal(signal.SIGSTOP)
        other = place.run(url, slots=SLOTS)
        assert other.finish() == 5
        assert f"process {owner.pid} on" in other.said()
        time.sleep(2.5)  # the owner must miss a tick
        sent = ledger.arrivals
        owner.signal(signal.SIGCONT)
        owner.wait_for("this process did not run for")
        assert ledger.arrivals - sent <= 2 * SLOTS, "no burst after waking"
        assert owner.finish() == 0, owner.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert verdict.paid_twice == 0


# A store that cannot be written at all.


def test_a_file_system_that_is_read_only_is_told_before_anything_is_sent(place: Yard, tmp_path: Path) -> None:
    here = tmp_path / "disk"
    here.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(here)], capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        with simulator_thread() as (url, ledger):
            assert place.run(url, "--db", str(here / "there.db"), "--first", "1").finish() == 0
            subprocess.run(["mount", "-o", "remount,ro", str(here)], check=True)
            sent = ledger.arrivals
            for store in ("there.db", "new.db"):
                run = place.run(url, "--db", str(here / store))
                assert run.finish() == 5
                assert str(here / store) in run.said()
                assert "Traceback" not in run.said()
            assert ledger.arrivals == sent
            assert place.start("status", "jobs.jsonl", "--db", str(here / "there.db")).finish() == 0
    finally:
        subprocess.run(["umount", "-l", str(here)], check=True)


# A store that is taken away under a run.


def test_a_store_that_is_moved_away_stops_the_run_and_has_every_answer(place: Yard, tmp_path: Path) -> None:
    store, moved = place.folder / "jobs.db", place.folder / "moved.db"
    with simulator_thread("latency=0.5", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        store.rename(moved)
        assert run.finish() == 5
        assert "was removed, moved or replaced" in run.said()
        assert ledger.arrivals < REQUESTS
        moved.rename(store)
        assert rows(store, "SELECT succeeded FROM job") == [(ledger.ends,)]
        again = place.run(url, slots=SLOTS)
        assert again.finish() == 0, again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


def test_a_store_that_is_removed_is_saved_by_the_last_who_can(place: Yard, tmp_path: Path) -> None:
    store = place.folder / "jobs.db"
    with simulator_thread("latency=0.5", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        store.unlink()
        assert run.finish() == 5
        (saved,) = place.folder.glob("jobs.db.*.saved.db")
        assert f"saved in {saved.name}" in run.said()
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        saved.rename(store)
        assert rows(store, "SELECT succeeded FROM job") == [(ledger.ends,)]
        again = place.run(url, slots=SLOTS)
        assert again.finish() == 0, again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


@pytest.mark.parametrize("looked_at", [False, True], ids=["alone", "beside a reader"])
def test_a_log_that_is_removed_stops_the_run_and_loses_nothing(place: Yard, tmp_path: Path, looked_at: bool) -> None:
    store = place.folder / "jobs.db"
    with simulator_thread("latency=0.5", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > 2 * SLOTS)
        store.with_name("jobs.db-wal").unlink()
        if looked_at:
            place.start("status", "jobs.jsonl").finish()
        assert run.finish() == 5
        assert "jobs.db-wal was removed" in run.said()
        assert ledger.arrivals < REQUESTS
        assert rows(store, "SELECT succeeded FROM job") == [(ledger.ends,)]
        again = place.run(url, slots=SLOTS)
        assert again.finish() == 0, again.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)
