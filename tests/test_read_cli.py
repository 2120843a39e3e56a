import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchrunner.clock import stamp
from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass
from batchrunner.store.changes import Heartbeat
from store_helpers import StoreMaker, answer, at, building, failure, report, request, requests, typed

HOSTILE = "\x1b]52;c;aGk=\x07\u202eevil\nsecond line\x9b2J\u200b"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def busy(store: StoreMaker) -> None:
    """A store with a bit of everything: its run was interrupted."""
    store.take_in(requests(10))
    store.begin("11:00:00")
    for n in range(1, 6):
        store.settle(f"r{n}", answer())
    store.settle("r6", failure(ErrorClass.TRUNCATED, "the answer hit max_tokens"))
    store.settle("r7", failure(ErrorClass.SERVER), retry_at="12:00:04")
    store.settle("r8", failure(ErrorClass.TIMEOUT, possibly_paid=True), retry_at="12:00:09")
    store.start("r9", "11:00:07")
    store.settle("r10", failure(ErrorClass.REFUSED))
    store.end("11:00:10", "interrupted", "Ctrl-C")
    store.take_in(requests(9))


def test_status_shows_on_one_screen_how_far_it_is(store: StoreMaker, tmp_path: Path) -> None:
    busy(store)
    result = typed("status", tmp_path / "jobs.jsonl")
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line and line[0] != " ")
    assert result.exit_code == Exit.OK
    assert len(result.stdout.splitlines()) < 24
    assert lines["store"] == str(store.path)
    assert lines["input"] == str(store.input_path)
    assert (lines["requests"], lines["succeeded"], lines["failed"], lines["pending"]) == (
        "9",
        "5  55.5 %",
        "1  11.1 %",
        "3  33.3 %",
    )
    assert "12:00:04" in lines["retrying"]
    assert lines["removed"].startswith("1 ")
    assert lines["last"] == "run   interrupted at 2026-11-22T11:00:10.000Z: Ctrl-C"
    assert lines["rate"] == "0.6 requests/s (6 requests in 10 s)"
    assert lines["tokens"].startswith("500 input, 100 output")
    assert lines["duplicates"].startswith("2 attempts may have been paid")
    assert lines["next"].startswith(f"batchrunner resume {tmp_path}/jobs.jsonl ")


def test_status_as_json_has_stable_names(store: StoreMaker) -> None:
    busy(store)
    found = report("status", store.path)
    assert {name: found[name] for name in ("requests", "succeeded", "failed", "pending", "removed")} == {
        "requests": 9,
        "succeeded": 5,
        "failed": 1,
        "pending": 3,
        "removed": 1,
    }
    assert found["retrying"] == {"count": 2, "next_at": at("12:00:04")}
    assert (found["running"], found["imported"], found["simulated"]) == (False, True, False)
    assert (found["run"]["ending"], found["run"]["reason"], found["run"]["finished_requests"]) == (
        "interrupted",
        "Ctrl-C",
        6,
    )
    assert (found["run"]["rate_per_s"], found["run"]["eta_s"]) == (0.6, None)
    assert found["tokens"] == {
        "input_tokens": 500,
        "output_tokens": 100,
        "cache_write_tokens": 15,
        "cache_read_tokens": 20,
        "cost_usd": None,
    }
    assert found["possible_duplicates"] == 2
    assert found["next"][0] == f"batchrunner resume {store.path}"
    assert "possible_duplicate_attempts" not in found


def test_possible_duplicates_are_listed_with_what_became_of_them(store: StoreMaker) -> None:
    busy(store)
    result = typed("status", store.path, "--possible-duplicates")
    assert result.stdout.splitlines() == [
        "r8  line 8  attempt 1  2026-11-22T11:00:01.000Z  timeout  not sent again",
        "r9  line 9  attempt 1  2026-11-22T11:00:07.000Z  in flight when the run was interrupted  not sent again",
    ]
    assert result.stderr.startswith("2 attempts may")
    found = report("status", store.path, "--possible-duplicates")["possible_duplicate_attempts"]
    assert [(one["custom_id"], one["sent_again"]) for one in found] == [("r8", False), ("r9", False)]


def test_status_of_a_living_run_names_it_and_says_how_long_it_will_take(store: StoreMaker) -> None:
    store.take_in(requests(10))
    store.begin("00:00:00")
    store.conn.execute("UPDATE runs SET started_at = '2026-01-01T00:00:00.000Z'")
    store.write(Heartbeat(store.run_id, stamp(datetime.now(UTC))))
    store.settle("r1", answer())
    shown = typed("status", store.path).stdout
    assert "process 4242 on box" in shown
    assert " left" in shown
    assert "batchrunner resume" not in shown
    found = report("status", store.path)
    assert found["running"] is True
    assert found["run"]["eta_s"] == pytest.approx(9 * found["run"]["elapsed_s"], rel=1e-3)


def test_status_of_a_run_that_died_says_so(store: StoreMaker) -> None:
    store.take_in(requests(1))
    store.begin("11:00:00")
    assert ": died; last sign of life" in typed("status", store.path).stdout


@pytest.mark.parametrize("ended", [True, False])
def test_status_knows_the_next_command(store: StoreMaker, ended: bool) -> None:
    store.take_in(requests(2))
    assert report("status", store.path)["next"] == [f"batchrunner resume {store.path}"]
    store.begin()
    store.settle("r1", answer())
    store.settle("r2", answer() if ended else failure(ErrorClass.INVALID))
    store.end()
    commands = [command.split()[1] for command in report("status", store.path)["next"]]
    assert commands == (["export"] if ended else ["errors", "retry", "export"])


def test_status_of_an_import_that_was_cut_short_says_that_nothing_was_sent(store: StoreMaker, tmp_path: Path) -> None:
    assert "nothing was sent" in typed("status", store.path).stdout
    found = report("status", tmp_path / "jobs.jsonl")
    assert (found["imported"], found["input"], found["requests"]) == (False, None, 0)
    assert found["next"] == [f"batchrunner run {tmp_path}/jobs.jsonl"]


def test_simulated_answers_are_marked(store: StoreMaker) -> None:
    store.take_in(requests(1), simulated=True)
    assert "simulator" in typed("status", store.path).stdout
    assert report("status", store.path)["simulated"] is True


def test_the_store_may_be_named_apart(store: StoreMaker, tmp_path: Path) -> None:
    busy(store)
    elsewhere = tmp_path / "my jobs.jsonl"
    found = report("status", elsewhere, "--db", store.path)
    assert found["next"][0] == f"batchrunner resume '{elsewhere}' --db {store.path}"


@pytest.mark.parametrize("verb", ["status", "errors", "export"])
def test_reading_what_is_not_there_is_a_usage_error(verb: str, tmp_path: Path) -> None:
    for name in (tmp_path / "none.jsonl", Path("/"), Path()):
        with pytest.raises(UsageError):
            typed(verb, name)


@pytest.mark.parametrize("verb", [("status", "--possible-duplicates"), ("errors",), ("errors", "--rows"), ("status",)])
def test_text_of_others_cannot_steer_the_terminal(store: StoreMaker, verb: tuple[str, ...]) -> None:
    store.input_path = Path(f"/tmp/{HOSTILE}.jsonl")
    store.take_in([request(HOSTILE, 1), request(HOSTILE + "2", 2)])
    store.begin()
    store.settle(HOSTILE, failure(ErrorClass.INVALID, HOSTILE))
    store.settle(HOSTILE + "2", failure(ErrorClass.TIMEOUT, HOSTILE, possibly_paid=True))
    store.end(reason=HOSTILE)
    shown = typed(*verb, store.path).stdout
    assert "evil" in shown
    assert {char for char in shown if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} == {"\n"}
    assert "\nsecond line" not in shown


def test_a_screen_that_knows_little_gets_escapes(store: StoreMaker) -> None:
    store.take_in([request("ü", 1)])
    store.begin()
    store.settle("ü", failure(ErrorClass.INVALID, "文 is wrong"))
    done = subprocess.run(
        [sys.executable, "-m", "batchrunner", "errors", str(store.path)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"1 \xd7 invalid: \u6587 is wrong" in done.stdout


def test_export_prints_data_on_stdout_and_all_else_on_stderr(store: StoreMaker, tmp_path: Path) -> None:
    store.take_in([request("r1", 1), request("r2", 2), request("r3", 3)])
    store.begin()
    store.settle("r1", answer("=1+1"))
    store.settle("r2", failure(ErrorClass.INVALID))
    store.take_in(requests(2), on_change="keep")
    result = typed("export", store.path)
    assert result.stdout.splitlines()[1].startswith("r1,succeeded,'=1+1,")
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr.splitlines()[0] == (
        "wrote 2 rows to stdout: 1 succeeded, 1 failed, 0 pending (1 no longer in the input left out)"
    )
    assert "1 cell got a ' in front" in result.stderr
    assert "--raw-csv" in result.stderr
    assert typed("export", store.path, "-o", "-", "--raw-csv").stdout.splitlines()[1].startswith("r1,succeeded,=1+1,")


def test_export_writes_a_file_in_the_format_of_its_suffix(store: StoreMaker, tmp_path: Path) -> None:
    store.take_in(requests(2))
    target = tmp_path / "out.jsonl"
    result = typed("export", tmp_path / "jobs.jsonl", "-o", target)
    assert (result.stdout, result.exit_code) == ("", Exit.OK)
    assert result.stderr == f"wrote 2 rows to {target}: 0 succeeded, 0 failed, 2 pending\n"
    assert [json.loads(line)["custom_id"] for line in target.read_text().splitlines()] == ["r1", "r2"]
    with pytest.raises(UsageError, match="-f replaces it"):
        typed("export", store.path, "-o", target)
    assert typed("export", store.path, "-o", target, "-f", "--format", "csv").exit_code == Exit.OK
    assert target.read_text().startswith("custom_id,")


def test_an_export_to_a_terminal_shows_tricks_as_escapes(store: StoreMaker) -> None:
    store.take_in([request("a", 1)])
    store.begin()
    store.settle("a", answer(HOSTILE))
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "batchrunner", "export", str(store.path)]
    with subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL) as process:
        os.close(follower)
        assert process.wait(30) == 0
    shown = os.read(leader, 65536)
    os.close(leader)
    assert rb"\x1b]52;c;aGk=\x07\u202eevil" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize("verb", ["status", "errors", "export"])
def test_reading_loads_nothing_that_sends(store: StoreMaker, verb: str) -> None:
    store.take_in(requests(1))
    script = (
        "import sys; from batchrunner.cli import cli; "
        "cli.main([sys.argv[1], sys.argv[2]], standalone_mode=False); "
        "print(sorted({'anthropic', 'aiohttp', 'anyio', 'httpx2', 'tqdm', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, verb, str(store.path)], capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"
