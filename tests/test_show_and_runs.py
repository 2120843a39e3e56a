import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass, Success, Usage
from batchrunner.store.changes import begin_run
from batchrunner.store.selection import Selection, put_back
from store_helpers import StoreMaker, answer, at, building, failure, report, request, requests, typed

HOSTILE = "\x1b]52;c;aGk=\x07\u202eevil\nsecond line\x9b2J\u200b"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def told(store: StoreMaker) -> None:
    """A store with one request that has seen a lot."""
    store.take_in([request("row-1", 4, metadata={"topic": "x"}, prompt="Why?")])
    store.begin()
    store.settle("row-1", failure(ErrorClass.SERVER, "it broke"), retry_at="11:00:05")
    store.settle(
        "row-1",
        failure(ErrorClass.TRUNCATED, "cut off", kept=answer("half an", stop_reason="max_tokens")),
        ended="11:00:09",
    )
    put_back(store.conn, Selection(patch={"max_tokens": 99}), at=at("11:10:00"))
    body = json.dumps({"content": [{"type": "text", "text": "whole\nanswer"}, {"type": "tool_use", "name": "look"}]})
    store.settle(
        "row-1", Success(body, "whole\nanswer", "tool_use", "claude-haiku-4-5", Usage(1234, 20, 3, 4), "req_9")
    )


def test_show_tells_all_of_one_request(store: StoreMaker, tmp_path: Path) -> None:
    told(store)
    result = typed("show", tmp_path / "jobs.jsonl", "row-1")
    text = result.stdout
    assert result.exit_code == Exit.OK
    for part in (
        "id         row-1\nline       4\nstatus     succeeded  at 2026-11-22T11:00:03.000Z\n",
        'metadata\n    {\n      "topic": "x"\n    }\n',
        '      "max_tokens": 99,\n      "prompt": "Why?"\n',
        '"created_at": "2026-11-22T11:10:00.000Z"',
        "attempt 1  2026-11-22T11:00:01.000Z  2.0 s  server  HTTP 500  haiku, run 1\n    it broke\n",
        "attempt 2  2026-11-22T11:00:01.000Z  8.0 s  truncated",
        "  answer   kept, not accepted; max_tokens; claude-haiku-4-5\n    half an\n",
        "success  HTTP 200  req_9",
        "  tokens   1,234 input, 20 output, 3 written to the cache, 4 read from it\n",
        '  answer   accepted; tool_use; claude-haiku-4-5\n    whole\n    answer\n    {\n      "type": "tool_use",',
    ):
        assert part in text, part


def test_show_as_json_has_everything(store: StoreMaker) -> None:
    told(store)
    found = report("show", store.path, "row-1")
    assert (found["custom_id"], found["line"], found["state"], found["metadata"]) == (
        "row-1",
        4,
        "succeeded",
        {"topic": "x"},
    )
    assert found["params"]["max_tokens"] == 99
    assert found["overrides"] == [{"created_at": at("11:10:00"), "patch": {"max_tokens": 99}}]
    assert [(a["number"], a["error_class"], a["duration_s"]) for a in found["attempts"]] == [
        (1, "server", 2.0),
        (2, "truncated", 8.0),
        (3, None, 2.0),
    ]
    assert [(a["number"], a["accepted"], a["text"]) for a in found["answers"]] == [
        (2, False, "half an"),
        (3, True, "whole\nanswer"),
    ]
    assert found["answers"][1]["message"]["content"][1]["name"] == "look"


def test_show_of_what_is_in_flight_or_gone_says_so(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.start("r1")
    store.take_in(requests(1))
    assert "not ended: in flight, or its run died" in typed("show", store.path, "r1").stdout
    assert "line       no line of the input any more" in typed("show", store.path, "r2").stdout
    assert typed("show", store.path, "--", "r1").exit_code == Exit.OK


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("row-17", "Did you mean row-179"),
        ("ROW-101", "Did you mean row-101"),
        ("raw-150", "Did you mean row-150"),
        ("row-15O", "Did you mean row-15"),
        ("3", "the one on line 3 is row-102"),
        ("%", "lists them all"),
        ("x" * 5000, "lists them all"),
        ("", "lists them all"),
        (HOSTILE, "lists them all"),
    ],
)
def test_a_wrong_id_brings_the_nearest_ones(store: StoreMaker, wanted: str, hint: str) -> None:
    store.take_in([request(f"row-{n}", n - 99) for n in range(100, 200)])
    with pytest.raises(UsageError, match="No request has the id") as caught:
        typed("show", store.path, "--", wanted)
    assert hint in str(caught.value)


def test_runs_lists_the_history_with_settings_and_endings(store: StoreMaker) -> None:
    store.take_in(requests(3))
    store.begin("11:00:00")
    store.settle("r1", answer())
    store.settle("r2", failure(ErrorClass.SERVER), retry_at="11:00:05")
    store.end("11:00:30", "halted", "The key is wrong.")
    settings = {"rate": "600/min", "concurrency": 5, "accept": ["truncated"], "retries": {"server": 9}, "first": None}
    run = {"version": "0.1.0", "host": "box", "pid": 4242, "at": at("11:10:00")}
    store.run_id = begin_run(store.conn, run, settings, at("23:59:59"))
    store.settle("r2", answer())
    text = typed("runs", store.path).stdout
    assert [line.split() for line in text.splitlines()] == [
        ["run", "started", "lasted", "finished", "calls", "ending"],
        ["1", at("11:00:00"), "30", "s", "1", "2", "halted"],
        ["The", "key", "is", "wrong."],
        ["default", "settings"],
        ["2", at("11:10:00"), "0.0", "s", "1", "1", "died"],
        ["rate=600/min", "concurrency=5", "accept=truncated", "retries=server:9"],
    ]
    found = report("runs", store.path)["runs"]
    assert [
        (r["id"], r["ending"], r["reason"], r["duration_s"], r["finished_requests"], r["calls"]) for r in found
    ] == [
        (1, "halted", "The key is wrong.", 30.0, 1, 2),
        (2, "died", None, 0.0, 1, 1),
    ]
    assert found[1]["settings"] == settings


def test_a_store_without_runs_has_no_history(store: StoreMaker) -> None:
    assert typed("runs", store.path).stdout == "No run has sent anything yet.\n"
    assert report("runs", store.path)["runs"] == []


@pytest.mark.parametrize("verb", ["show", "show --json", "runs", "runs --json"])
def test_text_of_others_cannot_steer_the_terminal(store: StoreMaker, verb: str) -> None:
    store.take_in([request(HOSTILE, 1, metadata={HOSTILE: HOSTILE}, prompt=HOSTILE)])
    store.begin()
    store.settle(
        HOSTILE, failure(ErrorClass.TRUNCATED, HOSTILE, kept=answer(HOSTILE, stop_reason=HOSTILE, model=HOSTILE))
    )
    store.end(reason=HOSTILE)
    name, *options = verb.split()
    shown = typed(name, store.path, *([HOSTILE] if name == "show" else []), *options).stdout
    assert "evil" in shown
    assert {char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} == {"\n"}


def test_errors_of_the_command_cannot_steer_the_terminal(store: StoreMaker, tmp_path: Path) -> None:
    """Neither our own nor those of the command line."""
    store.take_in([request("é\x1b[2J", 1)])
    for words in (
        ["show", str(store.path), "é\x1b[3J"],
        ["status", "a\x1b[2J", "b\x1b[2J"],
        ["export", "no\x1b[2J.jsonl"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "batchrunner", *words],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            env=os.environ,
        )
        assert done.returncode == Exit.USAGE
        assert len(done.stderr.splitlines()) <= 4
        assert b"\x1b" not in done.stderr
