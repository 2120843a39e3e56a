import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchrunner.advice import ADVICE
from batchrunner.cases import advice_for
from batchrunner.clock import stamp
from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass, Halt
from batchrunner.policy.signature import signature_key
from batchrunner.store.selection import Selection, put_back
from store_helpers import StoreMaker, answer, at, building, failure, report, request, requests, typed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def test_errors_shows_each_kind_with_the_command_that_mends_it(store: StoreMaker) -> None:
    store.take_in(requests(9))
    store.begin()
    for n in range(1, 6):
        store.settle(f"r{n}", failure(ErrorClass.TRUNCATED, f"hit max_tokens {n}"))
    store.settle("r6", failure(ErrorClass.INVALID, "messages.0: too high"))
    store.settle("r7", failure(ErrorClass.SERVER), retry_at="12:00:04")
    store.settle("r8", failure(ErrorClass.BILLING), decision=Halt("no credit"))
    store.end(ending="halted", reason="no credit")
    shown = typed("errors", store.path).stdout
    key = signature_key("truncated", "hit max_tokens #")
    assert f"between {at('11:00:03')} and {at('11:00:03')}; signature {key}" in shown
    assert "\n      1. max_tokens is lower than what such answers need" in shown
    assert shown.startswith("5 × truncated: hit max_tokens 1\n    such as r1, r2, r3, ...\n")
    assert f"batchrunner retry {store.path} --signature {key} --set max_tokens=16000" in shown
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


def three_kinds(store: StoreMaker) -> None:
    store.take_in(requests(5))
    store.begin()
    for n in (1, 2):
        store.settle(f"r{n}", failure(ErrorClass.INVALID, f"prompt is too long: {n} tokens > 1 maximum"))
    store.settle("r3", failure(ErrorClass.INVALID, "messages: Field required"))
    store.settle("r4", failure(ErrorClass.SERVER, "it broke"), retry_at="12:00:04")
    store.settle("r5", answer())


@pytest.mark.parametrize("name", [signature_key("invalid", "messages: Field required"), "messages: Field required"])
def test_errors_of_one_signature(store: StoreMaker, name: str) -> None:
    three_kinds(store)
    (group,) = report("errors", store.path, "--signature", name)["groups"]
    assert (group["custom_ids"], group["key"]) == (["r3"], signature_key("invalid", "messages: Field required"))
    assert typed("errors", store.path, "--signature", name, "--rows").stdout == (
        "r3  line 3  invalid  1 attempt  messages: Field required\n"
    )
    with pytest.raises(UsageError, match="No failed request has the signature '0badbad0'"):
        typed("errors", store.path, "--signature", "0badbad0")


def test_errors_says_more_of_a_message_that_it_knows(store: StoreMaker) -> None:
    three_kinds(store)
    (long, _) = report("errors", store.path)["groups"]
    known = advice_for(ErrorClass.INVALID, "prompt is too long")
    assert (long["count"], long["meaning"], tuple(long["causes"])) == (2, known.meaning, known.causes)
    shown = typed("errors", store.path).stdout
    assert f"{known.meaning} To be checked, in this order:\n      1. {known.causes[0]}\n      2. " in shown


def test_errors_of_certain_requests_says_what_failed_for_each(store: StoreMaker) -> None:
    three_kinds(store)
    shown = typed("errors", store.path, "--id", "r1", "--id", "r4", "--id", "r5").stdout
    first, retried, answered = shown.strip().split("\n\n")
    assert first.startswith("r1  line 1  failed  1 attempt\n    invalid: prompt is too long: 1 tokens > 1 maximum\n")
    assert first.endswith(f"batchrunner run {store.input_path}")
    assert retried == "r4  line 4  pending  1 attempt\n    its latest attempt: server: it broke"
    assert answered == "r5  line 5  succeeded  1 attempt"
    (found, other) = report("errors", store.path, "--id", "r3", "--id", "r5")["requests"]
    assert (found["state"], found["error_class"], found["message"]) == ("failed", "invalid", "messages: Field required")
    assert found["command"] == f"batchrunner run {store.input_path}"
    assert "command" not in other


def test_the_command_for_one_request_names_it(store: StoreMaker) -> None:
    store.take_in([request("it's r 1", 1)])
    store.begin()
    store.settle("it's r 1", failure(ErrorClass.SERVER))
    (found,) = report("errors", store.path, "--id", "it's r 1")["requests"]
    assert shlex.split(found["command"]) == ["batchrunner", "retry", str(store.path), "--id", "it's r 1"]


def test_errors_names_what_an_unknown_id_may_mean(store: StoreMaker) -> None:
    three_kinds(store)
    with pytest.raises(UsageError, match=r"No request has the id R3\. Did you mean r3"):
        typed("errors", store.path, "--id", "R3")
    with pytest.raises(UsageError, match="leave out --class"):
        typed("errors", store.path, "--id", "r3", "--class", "server")


def test_instants_in_a_store_of_somebody_else_are_shown_without_tricks(store: StoreMaker) -> None:
    store.take_in(requests(1))
    store.begin()
    store.settle("r1", failure(ErrorClass.INVALID, "no"))
    store.end()
    store.conn.execute("UPDATE failure_groups SET first_at = first_at || char(27) || ']0;x' || char(7)")
    assert "\x1b" not in typed("errors", store.path).stdout
