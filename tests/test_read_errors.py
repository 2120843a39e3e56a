from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchrunner.advice import ADVICE
from batchrunner.clock import stamp
from batchrunner.errors import Exit
from batchrunner.model import ErrorClass, Halt
from batchrunner.store.selection import Selection, put_back
from store_helpers import StoreMaker, answer, at, building, failure, report, requests, typed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def test_errors_shows_each_kind_with_the_command_that_mends_it(store: StoreMaker) -> None:
    store.take_in(requests(9))
    store.begin()
    for n in range(1, 6):
        store.settle(f"r{n}", failure(ErrorClass.TRUNCATED, f"hit max_tokens {n}"))
    store.settle("r6", failure(ErrorClass.INVALID, "temperature: too high"))
    store.settle("r7", failure(ErrorClass.SERVER), retry_at="12:00:04")
    store.settle("r8", failure(ErrorClass.BILLING), decision=Halt("no credit"))
    store.end(ending="halted", reason="no credit")
    shown = typed("errors", store.path).stdout
    assert shown.startswith("5 × truncated: hit max_tokens 1\n    such as r1, r2, r3, ...\n")
    assert f"batchrunner retry {store.path} --class truncated --set max_tokens=16000" in shown
    assert f"batchrunner run {store.input_path}" in shown, "run takes no store"
    assert "2 pending requests met an error and will be tried again: billing 1, server 1." in shown
    assert "The last run halted at 2026-11-22T11:30:00.000Z: no credit" in shown
    found = report("errors", store.path)
    assert found["failed"] == 6
    assert (found["retrying"], found["put_back"]) == ({"billing": 1, "server": 1}, {})
    assert [(group["error_class"], group["count"]) for group in found["groups"]] == [("truncated", 5), ("invalid", 1)]
    assert found["groups"][1]["custom_ids"] == ["r6"]
    assert found["groups"][1]["meaning"] == ADVICE[ErrorClass.INVALID].meaning


def test_errors_of_one_class(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r1", failure(ErrorClass.TRUNCATED))
    store.settle("r2", failure(ErrorClass.SERVER), retry_at="12:00:04")
    assert report("errors", store.path, "--class", "truncated")["groups"][0]["count"] == 1
    assert typed("errors", store.path, "--class", "invalid").stdout == "No request has failed as invalid.\n"
    assert typed("errors", store.path, "--class", "nonsense").exit_code == Exit.USAGE


def test_errors_lists_each_failed_request(store: StoreMaker) -> None:
    store.take_in(requests(3))
    store.begin()
    store.settle("r3", failure(ErrorClass.INVALID, "three"))
    store.settle("r1", failure(ErrorClass.SERVER, "one"), retry_at="12:00:00")
    store.settle("r1", failure(ErrorClass.SERVER, "one again"))
    assert typed("errors", store.path, "--rows").stdout.splitlines() == [
        "r1  line 1  server  2 attempts  one again",
        "r3  line 3  invalid  1 attempt  three",
    ]
    (first, _) = report("errors", store.path, "--rows")["rows"]
    assert first == {"custom_id": "r1", "line": 1, "error_class": "server", "message": "one again", "attempts": 2}


def test_errors_says_when_there_are_none(store: StoreMaker) -> None:
    store.take_in(requests(1))
    assert typed("errors", store.path).stdout == "No request has failed.\n"


def test_errors_says_what_it_leaves_out(store: StoreMaker) -> None:
    store.take_in(requests(40))
    store.begin()
    for n in range(1, 41):
        store.settle(f"r{n}", failure(ErrorClass.INVALID, "wrong " + "x" * n))
    shown = typed("errors", store.path).stdout
    assert "10 more failed in smaller groups" in shown


def test_errors_tells_what_was_put_back_from_what_is_retried(store: StoreMaker) -> None:
    store.take_in(requests(4))
    store.begin()
    for n in range(1, 5):
        store.settle(f"r{n}", failure(ErrorClass.SERVER))
    put_back(store.conn, Selection(ids=["r1", "r2", "r3"]), at=at("11:40:00"))
    store.begin("11:40:00")
    store.settle("r1", answer())
    store.settle("r2", failure(ErrorClass.NETWORK), retry_at="11:41:00")
    store.start("r3")
    shown = typed("errors", store.path).stdout
    assert shown.startswith("1 × server: it broke\n    such as r4\n")
    assert "1 pending request met an error and will be tried again: network 1." in shown
    assert "1 pending request had failed before being put back: server 1." in shown
    found = report("errors", store.path)
    assert (found["failed"], [group["count"] for group in found["groups"]]) == (1, [1])
    assert (found["retrying"], found["put_back"]) == ({"network": 1}, {"server": 1})


def test_errors_says_when_its_commands_must_wait(store: StoreMaker) -> None:
    store.take_in(requests(1))
    store.begin()
    store.settle("r1", failure(ErrorClass.INVALID))
    assert "must wait" not in typed("errors", store.path).stdout
    store.conn.execute("UPDATE runs SET heartbeat_at = ?", (stamp(datetime.now(UTC)),))
    assert "Process 4242 on box works on this store; these commands must wait" in typed("errors", store.path).stdout


def test_errors_of_an_import_that_was_cut_short_says_that_nothing_was_sent(store: StoreMaker) -> None:
    result = typed("errors", store.path)
    assert result.stdout.startswith("No request has failed: the job file is not taken in completely yet")
    assert result.exit_code == Exit.OK
    assert (report("errors", store.path)["groups"], report("errors", store.path)["failed"]) == ([], 0)
