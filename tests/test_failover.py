"""Several endpoints: the first that works is used, and everything that happens at each is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.model import ErrorClass
from batchrunner.policy.window import Rate
from batchrunner.progress import Silent
from batchrunner.report import Job, Report, closing
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.faults import FAULTS
from batchrunner.simulator.server import serve
from running import KEY, MODEL, WatchedLedger, job_file, right_answers, rows, simulator
from virtual import World, numbered, virtual_run

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", KEY)
    monkeypatch.setenv("DEAD_KEY", "sk-ant-api03-dead-9876543210")


def endpoint(name: str, url: str, key_env: str = "FIRST_KEY", **more: object) -> Endpoint:
    return Endpoint(url, name=name, key_env=key_env, **more)  # type: ignore[arg-type]


async def sent(
    path: Path, *endpoints: Endpoint, settings: RunSettings | None = None, notes: StringIO | None = None
) -> Report:
    source = Source(path, Defaults(model=MODEL, max_tokens=100))
    job = Job(path.with_suffix(".db"), source)
    settings = settings or RunSettings(limits=Limits(concurrency=8))
    return await run(job, settings, endpoints, reporter=Silent(notes or StringIO()))


@asynccontextmanager
async def mortal(spec: str) -> AsyncIterator[tuple[str, WatchedLedger, anyio.Event]]:
    """Serve a simulator that goes down for good when the event is set."""
    ledger, dying, ready = WatchedLedger(), anyio.Event(), anyio.Event()
    found: list[str] = []

    async def live() -> None:
        async with serve(Simulator(parse_spec(spec), ledger)) as url:
            found.append(url)
            ready.set()
            await dying.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        await ready.wait()
        yield found[0], ledger, dying
        dying.set()


class Picky(Simulator):
    """Knows a single model."""

    def __init__(self, model: str) -> None:
        super().__init__(parse_spec("latency=0.01"))
        self.model = model

    def _fault(self, call: Any) -> tuple[str, Any]:
        return super()._fault(call) if call.params["model"] == self.model else ("404_model", FAULTS["404_model"])


@asynccontextmanager
async def offering(model: str) -> AsyncIterator[str]:
    async with serve(Picky(model)) as url:
        yield url


def by_name(report: Report) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in report.endpoints}


async def test_a_dead_key_and_a_crash_half_way_cost_no_request(tmp_path: Path) -> None:
    path, notes = job_file(tmp_path / "jobs.jsonl", [f"Question {i}." for i in range(300)]), StringIO()

    async def kill(ledger: WatchedLedger, dying: anyio.Event) -> None:
        await anyio.to_thread.run_sync(ledger.wait_until, lambda seen: seen.ends >= 100)
        dying.set()

    async with (
        simulator("latency=0.02,key=another") as (dead_url, dead),
        mortal("latency=0.02") as (mortal_url, crashing, dying),
        simulator("latency=0.02") as (last_url, last),
        anyio.create_task_group() as group,
    ):
        group.start_soon(kill, crashing, dying)
        report = await sent(
            path, endpoint("dead", dead_url, "DEAD_KEY"), endpoint("crash", mortal_url), endpoint("last", last_url),
            notes=notes,
        )  # fmt: skip
    store = path.with_suffix(".db")
    assert (report.totals.succeeded, report.totals.failed, report.exit_code) == (300, 0, 0)
    assert right_answers(store)
    assert 1 <= dead.arrivals <= 8  # what was in flight when the key turned out to be dead
    told = by_name(report)
    assert (told["dead"]["state"], told["dead"]["answered"]) == ("given up", 0)
    assert "authentication" in str(told["dead"]["reason"])
    assert told["crash"]["state"] == "down"
    assert (
        told["crash"]["answered"]
        == rows(store, "SELECT count(*) FROM attempts WHERE endpoint = 'crash' AND outcome = 'success'")[0][0]
    )
    assert int(str(told["crash"]["answered"])) + int(str(told["last"]["answered"])) == 300
    assert last.paid.total() == told["last"]["answered"]
    assert rows(store, "SELECT count(*) FROM attempts WHERE endpoint IS NULL") == [(0,)]
    said = closing(report, str(path))
    assert "endpoint dead: " in said
    assert "given up: " in said
    assert "was down for" in said
    assert json.loads(rows(store, "SELECT endpoints FROM runs")[0][0])[0]["state"] == "given up"


async def test_the_run_halts_only_when_no_endpoint_is_left_and_says_what_happened_at_each(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two", "three"])
    async with simulator("key=another") as (first, seen), simulator("402=1") as (second, _):
        report = await sent(path, endpoint("main", first), endpoint("relay", second))
    assert (report.ending, report.exit_code, report.totals.pending) == ("halted", 3, 3)
    assert seen.arrivals <= 3
    assert report.reason is not None
    assert report.reason.startswith("No endpoint is left. main: ")
    assert "(authentication); relay: billing_error: There is an issue with your payment method" in report.reason
    assert rows(path.with_suffix(".db"), "SELECT sum(counted) FROM attempts") == [(0,)]


async def test_an_endpoint_that_comes_back_takes_over_again(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}." for i in range(60)])
    # The first is down for six seconds; the second alone would need half a minute for what is left.
    settings = RunSettings(limits=Limits(concurrency=2))
    async with simulator("latency=0.02,outage=0..6") as (first, _), simulator("latency=1") as (second, spare):
        report = await sent(path, endpoint("main", first), endpoint("spare", second), settings=settings)
    told = by_name(report)
    assert (report.totals.succeeded, report.totals.failed) == (60, 0)
    assert told["main"]["state"] == "in use"
    assert told["main"]["outages"] == 1
    assert 3 < float(str(told["main"]["down_s"])) < 12
    assert spare.paid.total() == told["spare"]["answered"]
    assert int(str(told["main"]["answered"])) > int(str(told["spare"]["answered"])) > 2


async def test_each_endpoint_has_its_own_names_of_models(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    theirs = f"{MODEL}-20251001"
    async with simulator("403=1") as (first, _), offering(theirs) as second:
        report = await sent(path, endpoint("main", first), endpoint("relay", second, models={MODEL: theirs}))
    assert report.totals.succeeded == 2
    models = rows(path.with_suffix(".db"), "SELECT DISTINCT model FROM results")
    assert models == [(theirs,)]


async def test_a_model_that_one_endpoint_lacks_goes_to_the_next_and_the_others_stay(tmp_path: Path) -> None:
    other = "claude-sonnet-4-6"
    lines = [{"id": f"h{i}", "prompt": f"{i}"} for i in range(5)]
    lines += [{"id": f"s{i}", "prompt": f"{i}", "model": other} for i in range(5)]
    path = job_file(tmp_path / "jobs.jsonl", lines)
    async with offering(MODEL) as first, simulator() as (second, _):
        report = await sent(path, endpoint("small", first), endpoint("large", second))
    assert report.totals.succeeded == 10
    served = rows(
        path.with_suffix(".db"),
        "SELECT substr(custom_id, 1, 1), endpoint, count(*) FROM requests JOIN attempts USING (seq)"
        " WHERE outcome = 'success' GROUP BY 1, 2 ORDER BY 1",
    )
    assert served == [("h", "small", 5), ("s", "large", 5)]
    assert "sonnet-4: not_found_error" in str(by_name(report)["small"]["reason"])


async def test_a_mistake_in_every_row_is_no_reason_to_try_it_elsewhere(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"{i}" for i in range(40)])
    async with simulator("400=1") as (first, _), simulator() as (second, spare):
        report = await sent(path, endpoint("main", first), endpoint("spare", second))
    assert (report.ending, spare.arrivals) == ("halted", 0)
    assert report.reason is not None
    assert "all failed alike" in report.reason


async def test_the_stricter_limit_of_run_and_endpoint_holds(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"{i}" for i in range(12)])
    async with simulator("latency=0.05,concurrency=2") as (url, ledger):
        report = await sent(path, endpoint("small", url, limits=Limits(concurrency=2)))
    assert (report.totals.succeeded, ledger.arrivals) == (12, 12)


def test_in_virtual_time_an_outage_of_two_minutes_is_covered_by_the_next_and_wastes_few_calls() -> None:
    """3,000 requests at 1,200 a minute; the first endpoint is gone from the 30th to the 150th second."""
    world = World(fallbacks=("latency=lognormal:1..10,rpm=1200,bucket_s=1",))
    limits = RunSettings(limits=Limits(Rate.parse("1200/min"), 200))
    figures = virtual_run(
        numbered(3000), "latency=lognormal:1..10,rpm=1200,bucket_s=1,outage=30..150", limits, world=world
    )
    assert figures.report is not None
    first, second = figures.report.endpoints
    assert (figures.succeeded, figures.failed) == (3000, 0)
    assert figures.seconds < 3000 / 20 + 30  # as if nothing had happened, but for the last answers
    assert first["outages"] == 1
    assert 110 < first["down_s"] < 130
    assert first["calls"] - first["answered"] < 150
    assert second["answered"] > 2000
    assert first["answered"] + second["answered"] == 3000


def test_an_endpoint_that_falls_silent_holds_no_more_than_one_request_hostage_at_a_time() -> None:
    """Nothing comes back from the first within the ten minutes that an answer may take; the second does the work."""
    limits = RunSettings(limits=Limits(concurrency=20))
    world = World(fallbacks=("latency=1..3",), at_most_s=7200)
    figures = virtual_run(numbered(600), "hang=1", limits, world=world)
    assert figures.report is not None
    first, second = figures.report.endpoints
    assert (figures.succeeded, figures.failed) == (600, 0)
    assert second["answered"] == 600
    assert first["calls"] <= 20 + 2
    assert figures.seconds < 600 + 600 + 120  # until it is noticed, and the one request that sees whether it is over


@pytest.mark.parametrize("error_class", [ErrorClass.INVALID, ErrorClass.SCHEMA])
def test_what_the_request_is_to_blame_for_is_not_the_endpoints(error_class: ErrorClass) -> None:
    from batchrunner.model import Failure
    from batchrunner.policy.failover import is_of_endpoint

    assert not is_of_endpoint(Failure(error_class, "wrong"))
    assert is_of_endpoint(Failure(ErrorClass.BILLING, "empty"))
