"""Runs as processes that are told other things from another terminal while they work."""

import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from batchrunner.cli import telling
from batchrunner.clock import SystemClock
from batchrunner.dispatcher import Dispatcher
from batchrunner.errors import Exit, StoreError, UsageError
from batchrunner.policy.judge import Judge
from batchrunner.prices import Tariff
from batchrunner.retuning import Listener, Sending
from batchrunner.settings import Limits, Stopping, default_rules
from batchrunner.slots import Slots
from batchrunner.stopping import Stopper
from batchrunner.store.changes import begin_run
from batchrunner.store.files import open_owner, owned
from batchrunner.store.owner import last_owner
from batchrunner.store.queue import Queue
from batchrunner.store.wishfile import send, wish_path
from batchrunner.store.writer import Writer
from running import MODEL, RunningCommand, WatchedLedger, command, job_file, paid_extra, rows, simulator_thread
from store_helpers import at, report, requests, typed
from store_helpers import building as building_store


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    RunningCommand.end_all()


def in_force(**named: Any) -> dict[str, Any]:
    """Return what `tune` shows where nothing but *named* is set."""
    unset = {"rate": None, "concurrency": None, "itpm": None, "otpm": None, "burst": False, "paused": False}
    return {**unset, **named}


def start(path: Path, url: str, *options: str) -> RunningCommand:
    return RunningCommand("run", path.name, "--model", MODEL, "--progress", "plain", *options, url=url, cwd=path.parent)


def jobs(folder: Path, count: int, *first: str) -> Path:
    return job_file(folder / "jobs.jsonl", [*first, *(f"Question {i}" for i in range(count))])


def changes(path: Path) -> list[dict[str, Any]]:
    texts = rows(path.with_suffix(".db"), "SELECT changes FROM runs ORDER BY id DESC LIMIT 1")
    found: list[dict[str, Any]] = json.loads(texts[0][0])
    return found


def whats(path: Path) -> list[str]:
    return [change["what"] for change in changes(path)]


def drained(ledger: WatchedLedger) -> bool:
    return ledger.arrivals == ledger.ends


def test_a_higher_rate_is_felt_at_once(tmp_path: Path) -> None:
    path = jobs(tmp_path, 3000)
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "2")
        ledger.wait_until(lambda ledger: ledger.ends == 1)  # the next one is due in half a minute
        told = time.monotonic()
        found = report("tune", path, "--rpm", "6000")
        ledger.wait_until(lambda ledger: ledger.arrivals >= 20)
        assert time.monotonic() - told < 5, "a second is promised; the rest is for a slow machine"
        assert found["in_force"] == in_force(rate="6000/60s")
        assert found["answer"] == "rate from 2/60s to 6000/60s"
        assert found["pid"] == run.process.pid
        assert typed("stop", path).exit_code == Exit.OK
        assert run.finish().code == Exit.INTERRUPTED
    assert whats(path) == ["rate from 2/60s to 6000/60s", "stop: nothing more is sent"]


def test_a_lower_rate_is_felt_at_once(tmp_path: Path) -> None:
    path = jobs(tmp_path, 5000, "[[sim:delay=3]] slow")
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "6000", "-j", "5")
        ledger.wait_until(lambda ledger: ledger.arrivals >= 30)
        assert typed("tune", path, "--rate", "1/h").exit_code == Exit.OK
        sent = ledger.arrivals
        assert not drained(ledger), "the slow one should still be in flight"
        ledger.wait_until(drained)
        assert ledger.arrivals <= sent + 5
        run.signal(signal.SIGINT)
        assert run.finish().code == Exit.INTERRUPTED


def test_more_slots_are_filled_at_once_and_cancelled_by_a_second_stop(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:delay=300]] slow {i}" for i in range(40)])
    with simulator_thread() as (url, ledger):
        run = start(path, url, "-j", "2")
        ledger.wait_until(lambda ledger: ledger.arrivals == 2)
        told = time.monotonic()
        assert report("tune", path, "-j", "12")["in_force"]["concurrency"] == 12
        ledger.wait_until(lambda ledger: ledger.arrivals == 12)
        assert time.monotonic() - told < 5
        assert "nothing more is sent" in typed("stop", path).stdout
        assert "cancelled" in typed("stop", path).stdout
        run.finish(20)
        assert run.code == Exit.INTERRUPTED, run.stderr
        assert ledger.arrivals == 12
    store = path.with_suffix(".db")
    assert rows(store, "SELECT ending, reason FROM runs") == [("interrupted", "stopped by `batchrunner stop`")]
    assert len(report("status", store, "--possible-duplicates")["possible_duplicate_attempts"]) == 12


def test_fewer_slots_let_what_is_in_flight_finish(tmp_path: Path) -> None:
    path = jobs(tmp_path, 400)
    most: list[int] = []
    with simulator_thread("latency=0.1") as (url, ledger):
        run = start(path, url, "-j", "12")
        ledger.wait_until(lambda ledger: ledger.ends >= 24 and ledger.arrivals - ledger.ends > 2)
        assert typed("tune", path, "-j", "2").exit_code == Exit.OK
        ledger.wait_until(lambda ledger: ledger.arrivals - ledger.ends <= 2)
        ends = ledger.ends

        def twenty_more(ledger: WatchedLedger) -> bool:
            most.append(ledger.arrivals - ledger.ends)
            return ledger.ends >= ends + 20

        ledger.wait_until(twenty_more)
        assert max(most) == 2
        assert typed("tune", path, "-j", "50").exit_code == Exit.OK
        assert run.finish().code == Exit.OK, run.stderr
        assert paid_extra(path.with_suffix(".db"), ledger) == {}
    assert rows(path.with_suffix(".db"), "SELECT succeeded FROM job") == [(400,)]


def test_a_pause_sends_nothing_while_what_is_in_flight_finishes_and_ends_when_told(tmp_path: Path) -> None:
    path = jobs(tmp_path, 3000, "[[sim:delay=3]] slow")
    with simulator_thread("latency=0.05") as (url, ledger):
        run = start(path, url, "-j", "10")
        ledger.wait_until(lambda ledger: ledger.ends >= 20)
        assert report("pause", path)["in_force"]["paused"] is True
        sent = ledger.arrivals
        # Other limits are taken in and end no pause; the slow one's end is seconds away.
        assert report("tune", path, "-j", "20")["in_force"] == in_force(concurrency=20, paused=True)
        ledger.wait_until(drained)
        assert ledger.arrivals <= sent + 10
        assert "nothing new is sent" in typed("status", path).stdout
        assert run.process.poll() is None
        sent = ledger.arrivals
        assert "going on" in typed("unpause", path).stdout
        ledger.wait_until(lambda ledger: ledger.arrivals >= sent + 100)
        assert typed("stop", path).exit_code == Exit.OK
        run.finish()
        assert run.code == Exit.INTERRUPTED, run.stderr
    assert rows(path.with_suffix(".db"), "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]
    assert whats(path) == ["paused", "concurrency from 10 to 20", "going on", "stop: nothing more is sent"]
    for what in whats(path):
        assert f"from another terminal: {what}" in run.stderr
        assert what in typed("runs", path).stdout


@pytest.mark.parametrize("how", ["stop", "SIGINT"])
def test_a_paused_run_stops_and_pays_nothing_twice(tmp_path: Path, how: str) -> None:
    path = jobs(tmp_path, 80)
    with simulator_thread("latency=0.3") as (url, ledger):
        run = start(path, url, "-j", "10")
        ledger.wait_until(lambda ledger: ledger.ends >= 10)
        assert typed("pause", path).exit_code == Exit.OK
        if how == "stop":
            assert typed("stop", path).exit_code == Exit.OK
        else:
            run.signal(signal.SIGINT)
        run.finish()
        assert run.code == Exit.INTERRUPTED, run.stderr
        store = path.with_suffix(".db")
        assert sum(ledger.paid.values()) == rows(store, "SELECT succeeded FROM job")[0][0]
        assert report("status", store, "--possible-duplicates")["possible_duplicate_attempts"] == []
        again = command("resume", path.name, url=url, cwd=tmp_path)
        assert again.code == Exit.OK, again.stderr  # and it is not paused any more
        assert paid_extra(store, ledger) == {}


def test_a_resumed_run_keeps_what_it_was_tuned_to(tmp_path: Path) -> None:
    path = jobs(tmp_path, 3000)
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "600")
        ledger.wait_until(lambda ledger: ledger.ends >= 1)
        assert typed("tune", path, "-j", "7", "--rate", "90/s").exit_code == Exit.OK
        assert typed("stop", path).exit_code == Exit.OK
        run.finish()
        again = RunningCommand("resume", path.name, "--progress", "plain", url=url, cwd=tmp_path)
        assert "at most 90/1s, at most 7 in flight" in again.wait_for_note("at most")
        assert report("tune", path)["in_force"] == in_force(concurrency=7, rate="90/1s")
        assert report("tune", path, "--rpm", "auto")["in_force"]["rate"] is None
        assert changes(path)[-1]["what"] == "rate from 90/1s to auto"
        again.signal(signal.SIGINT)
        again.finish()


def test_wishes_of_several_terminals_at_once_are_all_obeyed(tmp_path: Path) -> None:
    path = jobs(tmp_path, 3000)
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "600")
        ledger.wait_until(lambda ledger: ledger.ends >= 1)
        wishes = [("-j", "7"), ("-j", "8"), ("--rpm", "500"), ("--rate", "9/s")]
        others = [RunningCommand("tune", path.name, *wish, cwd=tmp_path) for wish in wishes]
        for other in others:
            assert other.finish().code == Exit.OK, other.stderr
        assert len(changes(path)) == len(wishes)
        last = changes(path)[-1]["now"]
        assert (last["concurrency"] in {7, 8}, last["rate"] in {"500/60s", "9/1s"}) == (True, True)
        run.signal(signal.SIGINT)
        run.finish()


def test_a_wish_for_nobody_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = jobs(tmp_path, 50)
    store = path.with_suffix(".db")
    with pytest.raises(UsageError, match="no store"):
        typed("pause", path)
    with simulator_thread("latency=0.01") as (url, ledger):
        assert start(path, url).finish().code == Exit.OK
        for words in (["tune", path], ["tune", path, "-j", "4"], ["pause", path], ["unpause", path], ["stop", path]):
            with pytest.raises(UsageError, match=f"No run works on .*none to {words[0]}.*batchrunner resume"):
                typed(*words)
        more = jobs(tmp_path, 3000)
        killed = start(more, url)
        ledger.wait_until(lambda ledger: ledger.ends >= 100)
        killed.kill()
    with pytest.raises(UsageError, match=r"batchrunner resume .*jobs.jsonl -j 4 --rate 60/60s"):
        typed("tune", path, "-j", "4", "--rpm", "60")
    assert not wish_path(store).exists()
    assert command("stop", path.name, cwd=tmp_path).code == Exit.USAGE


def test_a_wish_left_by_the_dead_never_reaches_a_later_run(tmp_path: Path) -> None:
    path = jobs(tmp_path, 400)
    store = path.with_suffix(".db")
    with simulator_thread("latency=0.05") as (url, ledger):
        run = start(path, url, "-j", "4")
        ledger.wait_until(lambda ledger: ledger.ends >= 4)
        owner = last_owner(store)
        assert owner is not None
        assert owner.name is not None
        run.kill()
        assert send(store, owner.name, {"verb": "stop"}) is not None
        later = start(path, url, "-j", "50").finish()
        assert later.code == Exit.OK, later.stderr
    assert not wish_path(store).exists()
    assert "wish" not in later.stderr
    assert changes(path) == []


def test_a_file_that_is_no_wish_is_noted_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = jobs(tmp_path, 3000)
    wish = wish_path(path.with_suffix(".db"))
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "600")
        ledger.wait_until(lambda ledger: ledger.ends >= 1)
        draft = tmp_path / "draft"
        draft.write_bytes(b"\xff{garbage\x1b[2J")
        draft.chmod(0o600)
        draft.rename(wish)
        assert "no wish that can be read" in run.wait_for_note("jobs.db.wish")
        assert not wish.exists()
        owner = last_owner(path.with_suffix(".db"))
        assert owner is not None
        assert owner.name is not None
        assert send(path.with_suffix(".db"), owner.name, {"verb": "tune", "concurrency": "\x1b[2J"}) is not None
        assert "whole number" in run.wait_for_note("not understood")
        wish.mkdir()
        run.wait_for_note("in the way")
        with monkeypatch.context() as impatient:
            impatient.setattr(telling, "PATIENCE_S", 0.5)
            with pytest.raises(StoreError, match="not yet taken"):
                typed("pause", path)
        wish.rmdir()
        assert typed("tune", path, "--rpm", "auto", "-j", "40").exit_code == Exit.OK
        run.finish()
        assert run.code == Exit.OK, run.stderr
        assert "in the way" not in run.stderr


def test_a_suspended_run_is_told_nothing_behind_ones_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PATIENCE_S", 0.5)
    path = jobs(tmp_path, 300)
    with simulator_thread("latency=0.02") as (url, ledger):
        run = start(path, url, "-j", "5")
        ledger.wait_until(lambda ledger: ledger.ends >= 10)
        run.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="did not answer"):
                typed("stop", path)
        finally:
            run.signal(signal.SIGCONT)
        assert not wish_path(path.with_suffix(".db")).exists()
        assert run.finish().code == Exit.OK, run.stderr
    assert changes(path) == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs to limit another process")
def test_more_slots_than_the_system_allows_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = jobs(tmp_path, 3000)
    with simulator_thread("latency=0.01") as (url, ledger):
        run = start(path, url, "--rpm", "600", "-j", "5")
        resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (200, 200))
        try:
            ledger.wait_until(lambda ledger: ledger.ends >= 1)
            with pytest.raises(UsageError, match=r"The run has refused: .*open files"):
                typed("tune", path, "-j", "5000", "--rpm", "60")
            assert report("tune", path)["in_force"] == in_force(concurrency=5, rate="600/60s")
        finally:
            run.signal(signal.SIGINT)
            assert run.finish().code == Exit.INTERRUPTED


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rpm", "5", "--rate", "5/s"], "not both"),
        (["--rate", "soon"], "COUNT/PERIOD"),
        (["--rate", "0/s"], "nothing"),
    ],
)
def test_options_are_checked_before_anybody_is_asked(tmp_path: Path, options: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        typed("tune", tmp_path / "jobs.jsonl", *options)
    for wrong in (["-j", "0"], ["-j", "10001"], ["--rpm", "0"], ["--rpm", "x"]):
        assert typed("tune", tmp_path / "jobs.jsonl", *wrong).exit_code == Exit.USAGE


def test_runs_that_cannot_be_told_are_named(tmp_path: Path) -> None:
    with building_store(tmp_path / "jobs.db") as maker:
        maker.take_in(requests(1))
    lock = tmp_path / "jobs.db.lock"
    lock.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "since": "now"}))
    with pytest.raises(UsageError, match="earlier version"):
        typed("pause", tmp_path / "jobs.db")
    if os.geteuid() == 0:
        lock.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "name": "a"}))
        os.chown(lock, 12345, -1)
        with pytest.raises(UsageError, match="belongs to another user"):
            typed("pause", tmp_path / "jobs.db")


def test_the_end_of_a_run_answers_for_what_it_did_not_take(tmp_path: Path) -> None:
    """It holds the store, never looks, and goes."""
    store = tmp_path / "jobs.db"
    with building_store(store) as maker:
        maker.take_in(requests(1))
    with owned(store):
        owner = last_owner(store)
        assert owner is not None
    with pytest.raises(UsageError, match="ended before it took effect"):
        telling.tell(store, owner, {"verb": "pause"})
    assert not wish_path(store).exists()


def test_a_run_that_still_reads_its_job_file_obeys_stop(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(f'{{"id": "r{i}", "prompt": "Question {i}"}}\n' for i in range(300_000)))
    store = path.with_suffix(".db")
    with simulator_thread() as (url, ledger):
        run = start(path, url)
        while not store.exists() or last_owner(store) is None:
            assert run.process.poll() is None
            time.sleep(0.01)
        assert "still reading" in typed("tune", path).stdout
        assert "still reading its job file" in typed("stop", path).stdout
        assert run.finish().code == Exit.INTERRUPTED
        assert ledger.arrivals == 0
    assert not store.exists()


@pytest.mark.parametrize("wrong", ["abc", "0", "1.5"])
def test_a_limit_that_is_none_is_refused_in_the_words_of_run(tmp_path: Path, wrong: str) -> None:
    done = typed("tune", job_file(tmp_path / "jobs.jsonl", ["one"]), "--rpm", wrong)
    assert done.exit_code == Exit.USAGE
    assert f"'{wrong}' is neither a number of requests per minute nor auto" in done.output


async def test_limits_that_come_before_a_run_sends_are_kept_until_it_does(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    store = path.with_suffix(".db")
    with building_store(store) as maker:
        maker.take_in([])
    notes: list[str] = []
    with owned(store) as name:
        stopper = Stopper(Stopping(), notes.append)
        listener = Listener(store, name, stopper, SystemClock(), notes.append)
        early = send(store, name, {"verb": "tune", "concurrency": 3})
        assert early is not None
        with contextlib.closing(open_owner(store)) as conn:
            run_id = begin_run(
                conn, {"version": "0", "host": "box", "pid": 1, "at": at("10:00:00")}, {}, at("11:00:00")
            )
            writer = Writer(conn, complain=notes.append)
            async with listener.listening():
                assert early.is_taken()
                assert notes == []
                queue, judge = Queue(conn), Judge(default_rules(), accept=frozenset(), official=False, rng=Random(1))
                slots = Slots(50)
                dispatcher = Dispatcher(
                    queue, writer, judge, [], slots=slots, clock=SystemClock(), run_id=run_id, tariff=Tariff(())
                )
                async with writer.running():
                    listener.sending(Sending(dispatcher, writer, run_id, Limits(concurrency=50)))
                    assert (slots.total, slots.free) == (3, 3)
        early.close()
    assert notes == ["from another terminal: concurrency from 50 to 3"]
    assert [(c["wish"], c["now"]) for c in changes(path)] == [(early.id, in_force(concurrency=3))]
