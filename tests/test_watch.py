import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from batchrunner.cli import status as status_module
from batchrunner.cli import watching
from batchrunner.clock import stamp
from batchrunner.errors import Exit, UsageError
from batchrunner.store.changes import Heartbeat
from batchrunner.store.owner import owner_lives
from store_helpers import StoreMaker, answer, building, requests, typed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def alive(store: StoreMaker, count: int = 3) -> None:
    store.take_in(requests(count))
    store.begin("00:00:00")
    store.write(Heartbeat(store.run_id, stamp(datetime.now(UTC))))


def one_answer_each_pause(store: StoreMaker, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> list[float]:
    """Let the run go on by one request whenever the watcher waits, and end when all are answered."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        store.settle(f"r{len(pauses)}", answer())
        if len(pauses) == count:
            store.end("23:00:00")

    monkeypatch.setattr(time, "sleep", pause)
    return pauses


def test_watching_shows_a_block_each_time_until_the_run_is_over(
    store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive(store)
    pauses = one_answer_each_pause(store, monkeypatch)
    result = typed("status", store.path, "--watch", "7")
    assert result.exit_code == Exit.OK
    assert pauses == [7.0, 7.0, 7.0]
    blocks = result.stdout.split("\n\nstore")
    succeeded = [
        next(line for line in block.splitlines() if line.startswith("succeeded")).split()[1] for block in blocks
    ]
    assert succeeded == ["0", "1", "2", "3"]
    assert "\x1b" not in result.stdout


def test_watching_as_json_is_an_object_a_line(store: StoreMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    alive(store)
    one_answer_each_pause(store, monkeypatch)
    looks = [json.loads(line) for line in typed("status", store.path, "--json", "--watch").stdout.splitlines() if line]
    assert [(look["succeeded"], look["running"]) for look in looks] == [(0, True), (1, True), (2, True), (3, False)]


def test_a_run_that_is_over_is_shown_once(store: StoreMaker) -> None:
    store.take_in(requests(1))
    result = typed("status", "--watch", store.path)
    assert (result.exit_code, result.stdout.count("requests ")) == (Exit.OK, 1)


def test_reading_the_job_file_is_waited_for(store: StoreMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is on record then, but the owner of the store lives: this process."""
    assert owner_lives(store.path)
    monkeypatch.setattr(time, "sleep", lambda _: store.take_in(requests(1)))
    assert typed("status", store.path, "--watch").stdout.count("store ") == 2


def test_an_owner_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "jobs.db.lock"
    for text in ("", "{}", "[]", '{"pid": 1, "host": "elsewhere"}', '{"pid": 99999999999999999999, "host": "x"}'):
        lock.write_text(text)
        assert not owner_lives(tmp_path / "jobs.db")


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["--watch", "jobs.jsonl"], watching.EVERY_S),
        (["jobs.jsonl", "--watch"], watching.EVERY_S),
        (["--watch", "0.5", "jobs.jsonl"], 0.5),
        (["jobs.jsonl", "--watch=3"], 3.0),
        (["--watch", "--json", "jobs.jsonl"], watching.EVERY_S),
        (["jobs.jsonl"], None),
    ],
)
def test_the_number_of_seconds_may_be_left_out(words: list[str], seconds: float | None) -> None:
    context = status_module.status.make_context("status", words)
    assert (context.params["every_s"], context.params["jobfile"]) == (seconds, Path("jobs.jsonl"))


def test_watching_takes_no_senseless_options(store: StoreMaker) -> None:
    with pytest.raises(UsageError, match="--possible-duplicates"):
        typed("status", store.path, "--watch", "--possible-duplicates")
    for seconds in ("0", "-1", "nan"):
        with pytest.raises(click.BadParameter):
            status_module.status.make_context("status", ["jobs.jsonl", f"--watch={seconds}"])


def test_ctrl_c_leaves_quietly(store: StoreMaker) -> None:
    alive(store)
    with subprocess.Popen(
        [sys.executable, "-m", "batchrunner", "status", str(store.path), "--watch", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == Exit.INTERRUPTED
        assert process.stderr.read().strip() == ""
