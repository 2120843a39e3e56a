"""`retry`: what it selects, shows, asks, changes and leaves on record."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.signature import signature_key
from batchrunner.store.overlay import laid_over
from running import MODEL, command, job_file, rows
from store_helpers import StoreMaker, answer, building, failure, report, requests, typed

pty = pytest.importorskip("pty")

CUT = "The answer was cut off (stop_reason max_tokens); raise max_tokens or shorten the prompt."


@pytest.fixture
def store(tmp_path: Path) -> StoreMaker:
    """r1 and r2 truncated, r3 a server error, r4 invalid, r5 answered; nobody owns it any more."""
    with building(tmp_path / "jobs.db") as maker:
        maker.take_in(requests(5), simulated=True)
        maker.begin()
        for n in (1, 2):
            maker.settle(f"r{n}", failure(ErrorClass.TRUNCATED, CUT))
        maker.settle("r3", failure(ErrorClass.SERVER, "it broke"))
        maker.settle("r4", failure(ErrorClass.INVALID, "messages: Field required"))
        maker.settle("r5", answer())
        maker.end()
    return maker


def tries(store: Path) -> dict[str, int]:
    return dict(rows(store, "SELECT custom_id, attempts FROM requests"))


def dry(store: StoreMaker, *words: str) -> list[str]:
    """Return what `retry --dry-run` shows, and check that nothing was changed by it."""
    before = store.path.read_bytes()
    result = typed("retry", store.path, "--dry-run", *words)
    assert result.exit_code == Exit.OK
    assert store.path.read_bytes() == before
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ([], ["1 × server"]),
        (["--all"], ["2 × truncated", "1 × invalid", "1 × server"]),
        (["--class", "truncated"], ["2 × truncated"]),
        (["--signature", CUT], ["2 × truncated"]),
        (["--signature", signature_key("invalid", "messages: Field required")], ["1 × invalid"]),
        (["--signature", "it broke", "--signature", CUT, "--id", "r2", "--id", "r3"], ["1 × server", "1 × truncated"]),
        (["--class", "server", "--id", "r4"], []),
    ],
)
def test_a_dry_run_shows_what_would_be_put_back_and_does_nothing(
    store: StoreMaker, words: list[str], taken: list[str]
) -> None:
    first, *groups = dry(store, *words)
    assert [re.sub(r", [0-9a-f]{8}: .*", "", line.strip()) for line in groups] == taken
    total = sum(int(group[0]) for group in taken)
    plural = "" if total == 1 else "s"
    assert first == (
        f"{total} failed request{plural} selected:" if total else "No failed request is selected, so none is put back."
    )


def test_what_will_change_is_shown(store: StoreMaker) -> None:
    changes = ["--set", "max_tokens=16000", "--set", "top_p=null", "--model", "claude-opus-4-8"]
    shown = dry(store, "--class", "truncated", *changes, "--system-append", "Be brief.\x1b[2J")
    assert shown[2:] == [
        "  changed: max_tokens: 16000",
        "  changed: top_p: taken out",
        "  changed: model: claude-opus-4-8, at the limits of the lane opus-4",
        "  changed: behind the system prompt: Be brief.\\x1b[2J",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "--signature", "it broke"], "leave out --class, --id and --signature"),
        (["--signature", "nonsense"], "No failed request has the signature 'nonsense'"),
        (["--id", "nobody"], "No request has the id 'nobody'"),
        (["--model", "a", "--set", "model=b"], "say the same"),
        (["--system-append", " "], "no text"),
        (["--set", "max_tokens=null"], "max_tokens"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_changes(store: StoreMaker, words: list[str], said: str) -> None:
    before = store.path.read_bytes()
    with pytest.raises(UsageError, match=re.escape(said)):
        typed("retry", store.path, *words)
    assert store.path.read_bytes() == before


def on_terminal(typed_in: str, *words: str) -> tuple[int, str]:
    """Run `batchrunner ...` on a terminal where somebody types *typed_in*; returns exit code and screen."""
    leader, follower = pty.openpty()
    os.write(leader, typed_in.encode())
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "batchrunner", *words], stdin=follower, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        while chunk := _read(leader):
            shown += chunk
        code = process.wait(60)
    os.close(leader)
    return code, shown.decode()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.mark.parametrize(("typed_in", "sent"), [("n\n", False), ("y\n", True), ("\n", True)])
def test_on_a_terminal_it_asks(store: StoreMaker, typed_in: str, sent: bool) -> None:
    code, shown = on_terminal(typed_in, "retry", str(store.path), "--class", "server", "--simulate")
    assert "1 × server" in shown.split("Put them back and send them?")[0]
    assert tries(store.path) == {"r1": 1, "r2": 1, "r3": 1 + sent, "r4": 1, "r5": 1}
    assert code == (Exit.SOME_FAILED if sent else Exit.OK)


def test_yes_and_scripts_are_not_asked(store: StoreMaker) -> None:
    code, shown = on_terminal("", "retry", str(store.path), "--class", "server", "--simulate", "-y")
    assert "Put them back" not in shown
    assert (code, tries(store.path)["r3"]) == (Exit.SOME_FAILED, 2)
    done = command("retry", "jobs.db", "--class", "truncated", cwd=store.path.parent, key=None)
    assert done.stderr.startswith("2 failed requests selected:\n  2 × truncated")
    assert (done.code, done.stdout) == (Exit.SOME_FAILED, "")
    assert tries(store.path)["r1"] == 2


@pytest.mark.parametrize(
    ("system", "patches", "expected"),
    [
        (None, [{"system+": "More."}], "More."),
        ("Be brief.", [{"system+": "More."}], "Be brief.\n\nMore."),
        ("Be brief.", [{"system": "New."}, {"system+": "A."}, {"system+": "B."}], "New.\n\nA.\n\nB."),
        (
            [{"type": "text", "text": "A"}],
            [{"system+": "B"}],
            [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}],
        ),
        ("Be brief.", [{"system": None}, {"max_tokens": 7}], None),
    ],
)
def test_patches_are_laid_over_one_after_the_other(system: Any, patches: list[dict[str, Any]], expected: Any) -> None:
    given = {"model": MODEL} | ({} if system is None else {"system": system})
    before = json.dumps(given)
    assert laid_over(given, patches).get("system") == expected
    assert json.dumps(given) == before, "what was given stays as it was"


def test_a_request_tried_again_with_changes_has_not_changed_for_the_next_run(tmp_path: Path) -> None:
    """The change check compares with what the line asked for at first, before and after the answer."""
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:truncate]] one", "two"])
    run = ("run", "jobs.jsonl", "--model", MODEL, "--simulate")
    assert command(*run, cwd=tmp_path).code == Exit.SOME_FAILED
    changes = ["--set", "max_tokens=2000", "--model", "claude-opus-4-8", "--system-append", "Be brief."]
    again = ("retry", "jobs.jsonl", "--class", "truncated", *changes)
    assert command(*again, "-n", "0", cwd=tmp_path, key=None).code != Exit.USAGE
    assert command(*run, cwd=tmp_path).code == Exit.SOME_FAILED, "put back, changed, and not sent: still no change"
    assert command(*again, "--accept", "truncated", cwd=tmp_path, key=None).code == Exit.OK
    path.write_text(path.read_text() + json.dumps({"id": "r2", "prompt": "three"}) + "\n")
    last = command(*run, cwd=tmp_path)
    assert last.code == Exit.OK, last.stderr
    assert rows(path.with_suffix(".db"), "SELECT custom_id, attempts FROM requests ORDER BY seq") == [
        ("r0", 3),
        ("r1", 1),
        ("r2", 1),
    ]


def test_another_model_goes_on_in_its_own_lane_also_in_a_later_resume(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:500*1]] one", "two"])
    store = path.with_suffix(".db")
    options = ("--model", MODEL, "--simulate", "--retries", "server=0")
    assert command("run", "jobs.jsonl", *options, cwd=tmp_path).code == Exit.SOME_FAILED
    put = command("retry", "jobs.jsonl", "--model", "claude-opus-4-8", "-n", "0", cwd=tmp_path, key=None)
    assert "at the limits of the lane opus-4" in put.stderr
    assert rows(store, "SELECT custom_id, model_class, state FROM requests WHERE state = 'pending'") == [
        ("r0", "opus-4", "pending")
    ]
    resumed = command("resume", "jobs.jsonl", "--retries", "server=3", cwd=tmp_path, key=None)
    assert resumed.code == Exit.OK, resumed.stderr
    assert rows(store, "SELECT lane, error_class FROM attempts WHERE seq = 1 ORDER BY number") == [
        ("haiku-4-5", "server"),
        ("opus-4", "server"),
        ("opus-4", None),
    ]
    found = report("show", store, "r0")
    assert found["params"]["model"] == "claude-opus-4-8"
    assert found["answers"][0]["model"] == "claude-opus-4-8"
    (given,) = rows(store, "SELECT json_extract(params, '$.model') FROM inputs WHERE seq = 1")
    assert given == (MODEL,), "what was asked for at first stays on record"


def test_earlier_answers_and_attempts_stay_on_record(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:long=200]] one"])
    store = path.with_suffix(".db")
    run = command("run", "jobs.jsonl", "--model", MODEL, "--max-tokens", "50", "--simulate", cwd=tmp_path)
    assert run.code == Exit.SOME_FAILED
    before = rows(store, "SELECT * FROM attempts"), rows(store, "SELECT * FROM results")
    (group,) = report("errors", store)["groups"]
    mended = command(*group["command"].split()[1:], cwd=tmp_path, key=None)
    assert mended.code == Exit.OK, mended.stderr
    after = (
        rows(store, "SELECT * FROM attempts WHERE number = 1"),
        rows(store, "SELECT * FROM results WHERE number = 1"),
    )
    assert after == before
    assert rows(store, "SELECT number, accepted FROM results ORDER BY number") == [(1, 0), (2, 1)]
