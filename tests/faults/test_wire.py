"""What networks and servers do to answers, through every sender: 50 requests, five of them faulty, and then all is well.

Each run is judged by the same invariants as one that was killed. What a single call makes of such things is in
tests/test_api_contract.py; what a whole run makes of refusals, in tests/test_run_live.py and tests/test_halts.py.
"""

import contextlib
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import anyio
import pytest
from anthropic import AsyncAnthropic

from batchrunner.endpoint import Endpoint
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.model import ErrorClass
from batchrunner.progress import Silent
from batchrunner.report import Job
from batchrunner.runner import run
from batchrunner.settings import Limits, RunSettings, default_rules, with_rules
from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.ledger import Arrival
from batchrunner.simulator.server import serve
from faults.invariants import check_invariants
from running import KEY, MODEL, job_file, rows

pytestmark = pytest.mark.anyio

E = ErrorClass
REQUESTS, EVERY, SLOTS = 50, 10, 6
#: Before the network goes down.
ANSWERED = 20
#: Waits of milliseconds where users wait for seconds.
RULES = with_rules(
    default_rules(),
    {each: {"first_s": 0.01} for each in (E.NETWORK, E.TIMEOUT, E.BAD_RESPONSE, E.SERVER, E.OVERLOADED, E.TOO_LARGE)},
)
ROUTES = ("direct", "stream", "injected")


@dataclass(frozen=True)
class Row:
    """One way to go wrong."""

    fault: str
    plain: ErrorClass  #: What it is to a call that is not streamed.
    streamed: ErrorClass | None  #: To one that is; None: it means nothing there, or the other way round.
    perhaps_paid: bool = True
    lasts: bool = False  #: Another try makes no difference: the request fails.


ROWS = [
    Row("reset", E.NETWORK, E.NETWORK),
    Row("close", E.NETWORK, E.NETWORK),
    Row("reset_body", E.NETWORK, E.NETWORK),
    Row("hang", E.TIMEOUT, E.TIMEOUT),
    Row("trickle", E.TIMEOUT, E.TIMEOUT),
    Row("200_truncated", E.BAD_RESPONSE, E.NETWORK),
    Row("200_empty", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_utf8", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_html", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_null", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_list", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_shape", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("200_text", E.BAD_RESPONSE, E.BAD_RESPONSE),
    Row("bad_gzip", E.NETWORK, E.NETWORK),
    Row("gzip_bomb", E.TOO_LARGE, E.TOO_LARGE, lasts=True),
    Row("huge", E.TOO_LARGE, E.TOO_LARGE, lasts=True),
    Row("huge_header", E.NETWORK, E.NETWORK),
    Row("502_html", E.SERVER, E.SERVER, perhaps_paid=False),
    Row("529", E.OVERLOADED, E.OVERLOADED, perhaps_paid=False),
    Row("sse_error", E.OVERLOADED, E.OVERLOADED),
    Row("sse_cut", E.NETWORK, E.NETWORK),
]


@contextlib.asynccontextmanager
async def way_to(route: str, url: str) -> AsyncIterator[Endpoint]:
    if route != "injected":
        yield Endpoint(url)
        return
    async with AsyncAnthropic(api_key=KEY, base_url=url) as client:
        yield Endpoint(client=client)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_a_tenth_of_the_calls_goes_wrong_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, route: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    is_stream = route == "stream" or row.fault.startswith("sse")
    times = "" if row.lasts else "*1"
    lines = [
        {"id": f"r{i}", "prompt": f"{'' if i % EVERY else f'[[sim:{row.fault}{times}]] '}Question {i}"}
        | ({"stream": True} if is_stream else {})
        for i in range(REQUESTS)
    ]
    job = job_file(tmp_path / "run" / "jobs.jsonl", lines)
    ledger, said = tmp_path / "ledger.jsonl", StringIO()
    settings = RunSettings(
        limits=Limits(concurrency=SLOTS), rules=RULES, timeout_s=1.5 if E.TIMEOUT is row.plain else 30.0
    )
    with Ledger(ledger) as kept:
        async with serve(Simulator(parse_spec("latency=0.005"), kept)) as url, way_to(route, url) as endpoint:
            report = await run(
                Job(job.with_suffix(".db"), Source(job, Defaults(model=MODEL, max_tokens=100))),
                settings,
                endpoint,
                reporter=Silent(said),
                rng=random.Random(1),
            )
    faulty = REQUESTS // EVERY
    failed = faulty if row.lasts else 0
    assert (report.totals.succeeded, report.totals.failed) == (REQUESTS - failed, failed), said.getvalue()
    check_invariants(job, ledger=ledger, saved={}, kills=0, slots=SLOTS, outputs=[said.getvalue()])
    spoilt = rows(
        job.with_suffix(".db"),
        "SELECT error_class, possibly_paid, count(*) FROM attempts WHERE outcome = 'failure' GROUP BY 1, 2",
    )
    expected = row.streamed if is_stream else row.plain
    assert spoilt == [(expected, int(row.perhaps_paid), faulty)]


async def test_a_network_that_is_down_for_a_while_fails_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are refused from the 20th answer on, for as long as it takes the breaker to notice and to look again."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    job = job_file(tmp_path / "run" / "jobs.jsonl", [f"Question {i}" for i in range(200)])
    ledger, said = tmp_path / "ledger.jsonl", StringIO()
    settings = RunSettings(limits=Limits(concurrency=SLOTS), rules=RULES, timeout_s=30.0)
    with CountingLedger(ledger) as kept:
        simulator = Simulator(parse_spec("latency=0.005"), kept)

        async def come_and_go(url_known: anyio.Event) -> None:
            async with serve(simulator, port):
                url_known.set()
                await kept.enough.wait()
            await noticed.wait()
            async with serve(simulator, port):
                await anyio.sleep_forever()

        class Noticing(Silent):
            def note(self, text: str) -> None:
                super().note(text)
                if "the endpoint is failing" in text:
                    noticed.set()

        port, up, noticed = free_port(), anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(come_and_go, up)
            await up.wait()
            report = await run(
                Job(job.with_suffix(".db"), Source(job, Defaults(model=MODEL, max_tokens=100))),
                settings,
                Endpoint(f"http://127.0.0.1:{port}"),
                reporter=Noticing(said),
                rng=random.Random(1),
            )
            group.cancel_scope.cancel()
    assert (report.totals.succeeded, report.totals.failed) == (200, 0), said.getvalue()
    assert "the endpoint answers again" in said.getvalue()
    # What was being answered when it went away is cut off and may be paid for: as if the run had been killed once.
    check_invariants(job, ledger=ledger, saved={}, kills=1, slots=SLOTS, outputs=[said.getvalue()])
    store = job.with_suffix(".db")
    classes = rows(store, "SELECT DISTINCT error_class FROM attempts WHERE outcome = 'failure'")
    assert classes == [(E.NETWORK,)]
    counted = "SELECT count(*) FROM attempts WHERE outcome = 'failure' AND counted = 1"
    # It is noticed when failures are nearly half of the latest outcomes, so before there are as many as answers.
    assert rows(store, counted)[0][0] <= ANSWERED + SLOTS


class CountingLedger(Ledger):
    """Tells when so many answers are out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.enough = anyio.Event()

    def end(self, arrival: Arrival, now: float, bytes_sent: int, *, delivered: bool) -> None:
        super().end(arrival, now, bytes_sent, delivered=delivered)
        if self.summary().paid >= ANSWERED:
            self.enough.set()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
