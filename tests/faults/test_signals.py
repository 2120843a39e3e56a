"""Signals, closed terminals and pipes, clocks: at whatever instant they come, no answer is lost and none paid for twice."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.commands import Command, Yard, until, yard
from faults.interruptions import REQUESTS, SLOTS, interrupted
from running import job_file, rows, simulator_thread


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Yard]:
    with yard(tmp_path / "run") as opened:
        job_file(opened.folder / "jobs.jsonl", [f"Question {i}" for i in range(REQUESTS)])
        yield opened


# One signal, two signals.


def test_one_signal_at_any_instant_pays_for_nothing_twice(tmp_path: Path) -> None:
    came = interrupted(tmp_path, runs=12, seed=1)
    assert came["130"] + came["143"] >= 6, "the signals came while something was sent"


def test_the_first_signal_stops_the_sending_at_once(place: Yard, tmp_path: Path) -> None:
    with simulator_thread("latency=0.5..1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        asked = time.monotonic()
        run.signal(signal.SIGINT)
        run.wait_for("stopping")
        noticed, arrived = time.monotonic() - asked, ledger.arrivals
        assert noticed < 0.5, "a tenth of a second, and what a busy machine adds"
        assert run.finish() == 130
        assert ledger.arrivals - arrived <= 1, "a call that was on the wire already"
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, finished=False)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


@pytest.mark.parametrize("delay_s", [0.05, 0.3])
def test_a_second_signal_ends_it_within_two_seconds_and_keeps_what_has_arrived(
    place: Yard, tmp_path: Path, delay_s: float
) -> None:
    with simulator_thread("latency=0.2..4,seed=1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        run.signal(signal.SIGINT)
        run.process.join(delay_s)
        run.signal(signal.SIGINT)
        asked = time.monotonic()
        assert run.finish(10) == 130, run.said()
        assert time.monotonic() - asked < 2
        arrived = ledger.summary().paid - ledger.summary().undelivered
        assert rows(place.folder / "jobs.db", "SELECT succeeded FROM job")[0][0] >= arrived - 1
        until(lambda: ledger.arrivals == ledger.ends, "the simulator is done")
        place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, kills=1, finished=False)


def test_a_signal_while_the_job_file_is_read_leaves_nothing_behind(place: Yard, tmp_path: Path) -> None:
    job_file(place.folder / "jobs.jsonl", [f"Question {i}" for i in range(100_000)])
    with simulator_thread("latency=0.01") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        until((place.folder / "jobs.db-wal").exists, "the import begins")
        run.signal(signal.SIGINT)
        asked = time.monotonic()
        assert run.finish() == 130
        assert time.monotonic() - asked < 3
        assert ledger.arrivals == 0
    assert sorted(path.name for path in place.folder.iterdir()) == ["jobs.jsonl"]


def test_signals_inside_the_writers_transaction_leave_it_whole(place: Yard, tmp_path: Path) -> None:
    """A hundred a second of a signal that only wakes the loop, all through a run: the handler sets an event, no more."""
    with simulator_thread("latency=0.01..0.05", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.arrivals > 0)
        run.signal(signal.SIGHUP)
        while "interrupted after" not in run.said():
            with contextlib.suppress(ProcessLookupError):
                run.signal(signal.SIGHUP)  # after the first it means nothing more
            time.sleep(0.01)
        assert run.finish() == 143, run.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS, finished=False)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


# Stopped and continued.


def test_a_run_that_is_put_to_sleep_by_the_terminal_goes_on(place: Yard, tmp_path: Path) -> None:
    with simulator_thread("latency=0.2..0.6", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, slots=SLOTS)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        for _ in range(3):
            run.signal(signal.SIGTSTP)
            until(lambda: stopped(run.pid), "it is stopped")
            ends = ledger.ends
            time.sleep(0.4)  # answers arrive meanwhile
            run.signal(signal.SIGCONT)
            ledger.wait_until(lambda ledger, ends=ends: ledger.ends > ends or not run.lives)  # type: ignore[misc]
        assert run.finish() == 0, run.said()
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


# Terminals and pipes that go away.


def on_terminal(place: Yard, url: str) -> tuple[Command, int]:
    """Start a run whose output is a terminal of its own; returns it and the terminal's other end."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    name = os.ttyname(follower)
    run = place.run(url, "--progress", "bar", slots=SLOTS, output=name)
    until(lambda: bool(os.read(leader, 1)), "it draws its bar")
    os.close(follower)
    return run, leader


def test_a_terminal_that_vanishes_without_a_word_stops_nothing(place: Yard, tmp_path: Path) -> None:
    """As under `nohup` or in another session: no hang-up comes, and every write fails with EIO."""
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run, leader = on_terminal(place, url)
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        os.close(leader)
        assert run.finish() == 0
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)


@pytest.mark.parametrize("progress", ["plain", "json", "bar"])
def test_a_reader_that_leaves_stops_nothing(place: Yard, tmp_path: Path, progress: str) -> None:
    """`batchrunner run ... 2>&1 | head -n 1`."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with simulator_thread("latency=0.05..0.1", tmp_path / "ledger.jsonl") as (url, ledger):
        run = place.run(url, "--progress", progress, slots=SLOTS, output=str(fifo))
        with fifo.open("rb") as reader:
            reader.readline()
        ledger.wait_until(lambda ledger: ledger.ends > SLOTS)
        assert run.finish() == 0
        verdict = place.judged(tmp_path / "ledger.jsonl", slots=SLOTS)
    assert (verdict.paid_twice, verdict.listed) == (0, 0)
