"""`--halt` and `--fail-on`: how many failures are put up with."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import batchrunner
from batchrunner.cli import cli
from batchrunner.errors import Exit, UsageError
from batchrunner.policy.tolerance import LEAST_FINISHED, FailOn, HaltAt
from batchrunner.settings import Limits, RunSettings
from running import KEY, MODEL, job_file, rows, run_job, simulator


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", HaltAt(failures=5)),
        (5, HaltAt(failures=5)),
        ("5%", HaltAt(percent=5)),
        (" 2.5 % ", HaltAt(percent=2.5)),
        ("100%", HaltAt(percent=100)),
        ("none", None),
        (None, None),
    ],
)
def test_a_limit_of_failures_is_read(text: Any, expected: HaltAt | None) -> None:
    assert HaltAt.parse(text) == expected
    if expected is not None:
        assert HaltAt.parse(str(expected)) == expected, "as the store keeps it"


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "five", "5%%", "1e3", "%", True, 2.5])
def test_a_limit_that_makes_no_sense_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="--halt"):
        HaltAt.parse(text)


@pytest.mark.parametrize("text", ["", "some", "101%", "-1%", "5"])
def test_an_exit_rule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-on"):
        FailOn.parse(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_number_of_failures_halts_from_there_on(failed: int, succeeded: int, limit: int) -> None:
    assert (HaltAt(failures=limit).reached(failed, failed + succeeded) is not None) == (failed >= limit)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 100))
def test_a_share_halts_once_enough_have_finished(failed: int, succeeded: int, percent: int) -> None:
    finished = failed + succeeded
    expected = finished >= LEAST_FINISHED and failed * 100 >= percent * finished
    assert (HaltAt(percent=percent).reached(failed, finished) is not None) == expected


@pytest.mark.parametrize(
    ("text", "failed", "finished", "expected"),
    [
        ("any", 0, 10, False),
        ("any", 1, 10**6, True),
        ("none", 10, 10, False),
        ("10%", 1, 10, False),
        ("10%", 2, 10, True),
        ("0%", 1, 10**6, True),
        ("100%", 10, 10, False),
        ("5%", 0, 0, False),
    ],
)
def test_failures_make_the_exit_code_as_they_were_asked_to(
    text: str, failed: int, finished: int, expected: bool
) -> None:
    assert FailOn.parse(text).fails(failed, finished) is expected
    assert FailOn.parse(str(FailOn.parse(text))) == FailOn.parse(text)


def bad(count: int, of: int) -> list[str]:
    return [f"{'[[sim:422]] ' if n < count else ''}Question {n}" for n in range(of)]


async def test_a_run_stops_at_so_many_failures_and_goes_on_later(tmp_path: Path) -> None:
    prompts = [f"{'[[sim:400]] ' if n % 4 == 0 else ''}Question {n}" for n in range(400)]
    path = job_file(tmp_path / "jobs.jsonl", prompts)
    settings = RunSettings(limits=Limits(concurrency=5), halt=HaltAt(failures=10))
    async with simulator("latency=0.002") as (url, ledger):
        report = await run_job(path, url, settings)
        assert (report.exit_code, report.ending) == (Exit.LIMIT, "stopped")
        assert report.reason is not None
        assert "10 requests failed (--halt 10)" in report.reason
        assert 10 <= report.totals.failed <= 10 + 5, "what was in flight may fail too"
        assert report.totals.pending > 300
        assert rows(path.with_suffix(".db"), "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]
        report = await run_job(path, url, settings)
        assert report.exit_code == Exit.LIMIT, "the count begins anew"
        report = await run_job(path, url)
    assert (report.exit_code, report.totals.failed, report.totals.pending) == (Exit.SOME_FAILED, 100, 0)
    assert ledger.arrivals == 400, "nothing was sent twice"


async def test_a_run_stops_at_a_share_of_failures_but_not_early(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [*bad(19, 19), *(f"Question {n}" for n in range(400)), *bad(0, 0)])
    settings = RunSettings(limits=Limits(concurrency=1), halt=HaltAt(percent=10))
    async with simulator("latency=0.001") as (url, _):
        report = await run_job(path, url, settings)
    assert report.reason is not None
    assert "19 of 100 requests that finished have failed (--halt 10%)" in report.reason
    assert report.exit_code == Exit.LIMIT


async def test_retries_do_not_count_as_failures(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:200_empty*1]] Question {n}" for n in range(20)])
    async with simulator("latency=0.001") as (url, _):
        report = await run_job(path, url, RunSettings(halt=HaltAt(failures=1)))
    assert (report.exit_code, report.counts.retries) == (Exit.OK, 20)


async def test_who_minds_no_failures_exits_0(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", bad(2, 10))
    async with simulator("latency=0.001") as (url, _):
        assert (await run_job(path, url, RunSettings(fail_on=FailOn.parse("none")))).exit_code == Exit.OK
        assert (await run_job(path, url, RunSettings(fail_on=FailOn.parse("20%")))).exit_code == Exit.OK
        assert (await run_job(path, url, RunSettings(fail_on=FailOn.parse("19%")))).exit_code == Exit.SOME_FAILED


def code_of(*arguments: str | Path) -> int:
    return int(CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False).return_value)


def test_flags_definition_and_store_name_them(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", bad(8, 30))
    job = tmp_path / "job.toml"
    job.write_text(f'input = "jobs.jsonl"\n[request]\nmodel = "{MODEL}"\n[run]\nhalt = 3\nfail_on = "none"\n')
    running = ("--simulate", "--progress", "none", "-j", "1")
    assert code_of("run", job, *running) == Exit.LIMIT
    assert code_of("resume", tmp_path / "job.db", *running) == Exit.LIMIT, "as in the last run"
    assert code_of("resume", tmp_path / "job.db", *running, "--halt", "none") == Exit.OK, "which minded no failures"
    assert code_of("run", job, *running, "--fail-on", "any") == Exit.SOME_FAILED
    assert code_of("run", job, *running) == Exit.OK


def test_they_are_keywords_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": MODEL, "simulate": True, "progress": "none", "concurrency": 1}
    store = tmp_path / "answers.db"
    report = batchrunner.run_sync(bad(8, 30), store=store, halt=3, **options)
    assert (report.exit_code, report.ending) == (Exit.LIMIT, "stopped")
    report = batchrunner.run_sync(bad(8, 30), store=store, halt="100%", fail_on="none", **options)
    assert report.exit_code == Exit.OK
    with pytest.raises(UsageError):
        batchrunner.run_sync(bad(1, 2), store=store, halt="lots", **options)
