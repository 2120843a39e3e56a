"""Several endpoints: the first that works is used, and everything that happens at each is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

import anyio
import pytest

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.model import ErrorClass
from batchrunner.progress import Silent
from batchrunner.report import Job, Report, closing
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.server import serve
from running import KEY, MODEL, WatchedLedger, job_file, right_answers, rows, simulator

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
