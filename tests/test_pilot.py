"""A pilot: a sample first, then a question."""

import io
import json
import os
import sys
import threading
from pathlib import Path

import anyio
import pytest

from batchrunner import Report as PublicReport
from batchrunner import run_sync
from batchrunner.cli.capping import pilot_of
from batchrunner.errors import Exit
from batchrunner.piloting import projection_told
from batchrunner.policy.projection import Drawn, Pace, Projection, Rest, project
from batchrunner.policy.sharing import Sharing
from batchrunner.report import Pilot, Wished, closing
from batchrunner.screen import usd
from batchrunner.settings import RunSettings
from running import KEY, command, job_file, rows, run_job, simulator

pty = pytest.importorskip("pty")

PROMPTS = [f"Question {n}" for n in range(120)]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


async def yes(_projection: Projection, _wished: Wished) -> bool:
    return True


async def no(_projection: Projection, _wished: Wished) -> bool:
    return False


async def test_a_pilot_that_satisfies_goes_on_and_asks_for_nothing_twice(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", PROMPTS)
    async with simulator() as (url, ledger):
        report = await run_job(path, url, pilot=Pilot(20, yes))
        assert ledger.summary().paid == len(PROMPTS)
    assert (report.ending, report.exit_code, report.totals.succeeded) == ("finished", Exit.OK, len(PROMPTS))
    assert report.counts.sent == len(PROMPTS)
    assert report.projection is not None
    assert (report.projection.drawn, report.projection.rest) == (20, 100)
    true_cost = rows(path.with_suffix(".db"), "SELECT sum(cost_usd) FROM attempts WHERE run_id = 2")[0][0]
    assert report.projection.cost_usd is not None
    assert report.projection.cost_usd.low <= true_cost <= report.projection.cost_usd.high


async def test_a_pilot_that_does_not_satisfy_stops_there_and_its_answers_are_kept(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", PROMPTS)
    async with simulator() as (url, ledger):
        report = await run_job(path, url, pilot=Pilot(20, no))
        assert (report.ending, report.exit_code, report.totals.pending) == ("stopped", Exit.LIMIT, 100)
        assert ledger.summary().paid == 20
        again = await run_job(path, url, pilot=Pilot(20, no))
        assert again.projection == report.projection, "the same sample, which has its answers"
        assert ledger.summary().paid == 20
        whole = await run_job(path, url)
        assert (whole.exit_code, ledger.summary().paid) == (Exit.OK, 120)


async def test_a_pilot_larger_than_the_job_is_the_job(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", PROMPTS[:5])
    async with simulator() as (url, _):
        report = await run_job(path, url, pilot=Pilot(20, no))
    assert (report.ending, report.totals.succeeded, report.projection) == ("finished", 5, None)


async def test_identical_requests_that_will_not_be_sent_are_not_part_of_what_the_rest_costs(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {n % 30}" for n in range(120)])
    once = RunSettings(sharing=Sharing(dedupe=True))
    async with simulator("output_tokens=10..60") as (url, ledger):
        report = await run_job(path, url, once, pilot=Pilot(10, no))
        sample = ledger.summary().paid
        again = await run_job(path, url, once)
        rest = ledger.summary().paid - sample
    assert report.projection is not None
    assert (report.projection.rest, report.projection.identical) == (rest, 110 - rest)
    assert report.projection.cost_usd is not None
    assert report.projection.cost_usd.low <= again.counts.cost_usd <= report.projection.cost_usd.high
    assert f"about {usd(report.projection.cost_usd.likely)} for the 110 pending" in closing(report, str(path))


def test_without_a_terminal_the_command_stops_after_the_pilot_and_yes_goes_on(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", PROMPTS)
    flags = ("--model", "claude-haiku-4-5", "--simulate", "--progress", "json")
    first = command("run", "jobs.jsonl", "--pilot", "15", *flags, cwd=tmp_path, key=None)
    assert first.code == Exit.LIMIT, first.stderr
    end = json.loads(first.stderr.splitlines()[-1])
    assert (end["succeeded"], end["pending"], end["projection"]["drawn"]) == (15, 105, 15)
    second = command("run", "jobs.jsonl", "--pilot", "15", "-y", *flags, cwd=tmp_path, key=None)
    assert second.code == 0, second.stderr
    assert "of the other 105" in second.stderr or "The other 105" in second.stderr


@pytest.mark.parametrize(
    ("typed_in", "answer"),
    [
        ("y\n", True),
        ("\n", True),
        pytest.param("y\x04", True, id="a line that Ctrl-D cut short"),
        ("n\n", False),
        ("perhaps\n", False),
        pytest.param("\x04", False, id="Ctrl-D"),
        pytest.param("", False, id="Ctrl-C"),
    ],
)
async def test_the_question_is_answered_by_whatever_is_typed_and_deaf_to_nothing(
    typed_in: str, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = pty.openpty()
    late = threading.Timer(5, os.write, (leader, b"\n"))  # whoever waits for the end of a line gets it, and has failed
    late.start()
    wished = anyio.Event()
    if not typed_in:
        wished.set()
    os.write(leader, typed_in.encode())
    with io.TextIOWrapper(io.FileIO(follower)) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        pilot = pilot_of({"pilot": 3, "yes": False})
        assert pilot is not None
        agreed = await pilot.agrees(project(DRAWN, Rest(100, 100.0), {"": Pace(rpm=600)}), wished.wait)
    assert (agreed, late.is_alive()) == (answer, True)
    late.cancel()
    os.close(leader)


def test_a_pilot_of_a_job_that_goes_by_batches_is_sent_live(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", PROMPTS)
    flags = ("--model", "claude-haiku-4-5", "--simulate-with", "batch_s=0.1", "--route", "batches", "--pilot", "15")
    first = command("run", "jobs.jsonl", *flags, cwd=tmp_path, key=None)
    assert first.code == Exit.LIMIT, first.stderr
    assert "by batches" in first.stderr
    second = command("run", "jobs.jsonl", *flags, "-y", cwd=tmp_path, key=None)
    assert second.code == 0, second.stderr
    spent = rows(tmp_path / "jobs.db", "SELECT service_tier, count(*) FROM attempts GROUP BY 1 ORDER BY 2")
    assert [count for _, count in spent] == [15, 105]


def test_a_program_decides_by_the_projection(tmp_path: Path) -> None:
    asked: list[Projection] = []

    def go_on(projection: Projection) -> bool:
        asked.append(projection)
        return projection.failed.likely < 0.5

    report: PublicReport = run_sync(
        [{"prompt": text} for text in PROMPTS],
        store=tmp_path / "a.db",
        model="claude-haiku-4-5",
        simulate=True,
        progress="none",
        pilot=10,
        go_on=go_on,
    )
    assert (report.totals.succeeded, len(asked)) == (len(PROMPTS), 1)


DRAWN = [Drawn(100, 0.01, 50, 200, 2.0)] * 8 + [Drawn(100, 0.01, 50, 200, 2.0, failed=True, truncated=True)] * 2


@pytest.mark.parametrize(
    ("pace", "seconds", "bound_by"),
    [
        (Pace(concurrency=10), 100 * 2.0 / 10 + 2, "calls in flight"),
        (Pace(rpm=60, concurrency=100), 100 + 2, "requests per minute"),
        (Pace(rpm=6000, otpm=2000, concurrency=100), 600 + 2, "output tokens per minute"),
        (Pace(itpm=500, concurrency=100), 600 + 2, "input tokens per minute"),
    ],
    ids=["slots", "requests", "output", "input"],
)
def test_the_limit_that_takes_longest_decides_on_the_time(pace: Pace, seconds: float, bound_by: str) -> None:
    found = project(DRAWN, Rest(100, 100.0, {"haiku": 100}), {"haiku": pace})
    assert found.seconds == pytest.approx((seconds,) * 3)
    assert found.bound_by == bound_by
    assert found.failed.likely == found.truncated.likely == 0.2


def test_of_several_lanes_the_slowest_decides() -> None:
    drawn = [Drawn(100, 0.01, 50, 200, 2.0, lane=lane) for lane in ("a", "b") for _ in range(5)]
    found = project(drawn, Rest(100, 100.0, {"a": 50, "b": 50}), {"a": Pace(rpm=600), "b": Pace(rpm=60)})
    assert (round(found.seconds.likely), found.bound_by) == (52, "b: requests per minute")


def test_a_sample_without_an_answer_does_not_say_that_the_rest_is_free() -> None:
    found = project([Drawn(100, 0.0, 0, 0, 2.0, failed=True)] * 10, Rest(100, 100.0), {})
    assert (found.cost_usd, found.failed.likely) == (None, 1.0)
    told = projection_told(found)
    assert "no telling: no request of the sample was answered" in told
    assert "output" not in told
    cut = project([Drawn(100, 0.01, 50, 200, 2.0, failed=True, truncated=True)] * 10, Rest(100, 100.0), {})
    assert cut.cost_usd == pytest.approx((1.0,) * 3), "what was cut off was paid for"


def test_an_unknown_price_makes_the_cost_unknown_and_nothing_else() -> None:
    found = project([one._replace(cost_usd=None) for one in DRAWN], Rest(100, 100.0), {})
    assert (found.cost_usd, found.spent_usd) == (None, None)
    assert found.output_tokens == pytest.approx((20_000.0,) * 3)
