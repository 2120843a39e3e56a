"""Whole runs in virtual time against servers that limit in different ways: what the limiter promises, at full length.

Everything is real but sockets, threads and clocks (benchmarks/virtual); the server's own ledger is the witness.
"""

import bisect
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import anyio
import pytest

from batchrunner.policy.accounts import DEPTH_S
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from batchrunner.store.owner import last_owner
from batchrunner.store.wishfile import send
from batchrunner.tuning import Tuning
from virtual import Figures, Scene, World, numbered, virtual_run

RPM = RunSettings(limits=Limits(Rate(4000, 60.0)))
SLOW = "latency=lognormal:1..10"
LONG = "latency=0.5,tokens_per_s=70,output_tokens=lognormal:17.38..4096:0.9,otpm=80000"


def wasted(figures: Figures) -> int:
    """Return how many calls the server turned away as overloaded."""
    return figures.statuses.get(529, 0)


@pytest.mark.parametrize("bucket_s", [1, 10, 60])
def test_a_steady_run_uses_the_limit_and_meets_no_refusal(bucket_s: int) -> None:
    figures = virtual_run(numbered(10_000), f"{SLOW},rpm=4000,bucket_s={bucket_s}", RPM)
    assert figures.statuses == {200: 10_000}
    assert figures.max_in_window(60.0) <= 4000
    under_way = figures.between(60.0, 120.5)
    assert len(under_way) >= 0.99 * 4000 * 60.5 / 60.25
    assert figures.goodput >= 0.99


def test_limits_that_only_the_headers_name_are_used_as_fully() -> None:
    figures = virtual_run(numbered(10_000), f"{SLOW},rpm=4000,bucket_s=1")
    assert figures.statuses == {200: 10_000}
    assert figures.max_in_window(60.0) <= 4000
    assert len(figures.between(60.0, 120.5)) >= 0.99 * 4000 * 60.5 / 60.25


def test_a_long_run_begins_with_a_ramp_that_an_acceleration_limit_lets_pass() -> None:
    figures = virtual_run(numbered(24_000), f"{SLOW},rpm=4000,bucket_s=1,accelerate=60", RPM)
    assert figures.failed == 0
    assert figures.refused_share <= 0.005
    first = len(figures.between(0.0, 5.0))
    assert first < 0.4 * 5 * 4000 / 60, "the ramp begins at a tenth"
    assert len(figures.between(120.0, 180.0)) >= 0.97 * 4000


@pytest.mark.parametrize(("bucket_s", "refused"), [(10, 0.001), (1, 0.002)])
def test_another_tenant_that_takes_half_is_felt_and_the_rest_is_used(bucket_s: int, refused: float) -> None:
    figures = virtual_run(numbered(10_000), f"{SLOW},rpm=4000,bucket_s={bucket_s},tenant=75..:0.5", RPM)
    assert figures.goodput >= 0.99
    assert figures.refused_share <= refused
    assert figures.failed == 0


@pytest.mark.parametrize(("burst", "at_most_s"), [(False, 26.0), (True, 21.1)])
def test_a_strict_server_is_served_evenly_or_in_bursts_without_a_refusal(burst: bool, at_most_s: float) -> None:
    limits = Limits(Rate(600, 10.0), burst=burst)
    figures = virtual_run(
        numbered(1500),
        "latency=0.05..0.3,rate=600/10s,strict=1",
        RunSettings(limits=limits),
        world=World(network_s=(0.0, 0.01)),
    )
    assert figures.statuses == {200: 1500}
    assert figures.max_in_window(10.0) <= 600
    assert figures.seconds <= at_most_s


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "max_tokens"),
    [
        ("bucket_s=10", 4096),
        ("bucket_s=60", 4096),
        ("bucket_s=10", 32_000),
        ("bucket_s=60", 32_000),
        ("bucket_s=60,output_limit=reserved", 4096),
    ],
)
def test_output_tokens_are_used_fully_however_large_max_tokens_is(server: str, max_tokens: int) -> None:
    settings = RunSettings(limits=Limits(otpm=80_000))
    figures = virtual_run(numbered(20_000, max_tokens=max_tokens), f"{LONG},{server}", settings)
    assert figures.output_used >= 0.99
    assert figures.refused_share <= 0.001
    assert figures.failed == 0


def test_an_outage_costs_few_calls_and_no_request_and_ends_quickly() -> None:
    figures = virtual_run(numbered(14_000), f"{SLOW},rpm=4000,bucket_s=10,outage=60..180", RPM)
    assert wasted(figures) <= 100
    assert figures.failed == 0
    sends = [one.at for one in figures.accepted()]
    at_full_pace = next(
        second
        for second in range(180, 240)
        if bisect.bisect(sends, second + 1) - bisect.bisect(sends, second) >= 0.9 * 4000 / 60
    )
    assert at_full_pace <= 190


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize("seconds", [20, 60, 120])
def test_an_outage_fails_no_request_of_a_very_small_job(rows: int, seconds: int) -> None:
    for seed in range(1, 5):
        figures = virtual_run(numbered(rows), f"latency=1,outage=0..{seconds}", world=World(seed=seed))
        assert (figures.succeeded, figures.failed) == (rows, 0)
        assert figures.seconds <= seconds + 12


def test_a_job_of_one_bad_row_ends_nevertheless() -> None:
    figures = virtual_run([{"id": "poison", "prompt": "[[sim:529]] x"}], "latency=1")
    assert (figures.succeeded, figures.failed) == (0, 1)
    assert figures.seconds <= 300
    assert "the few requests that are left keep failing" in figures.notes


@pytest.mark.parametrize("poison", ["[[sim:429_no_header]]", "[[sim:429]]", "[[sim:529]]", "[[sim:500]]"])
def test_one_poison_row_in_a_thousand_fails_and_holds_nobody_up(poison: str) -> None:
    def lines() -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(numbered(1000)):
            yield {"id": "poison", "prompt": f"{poison} x"} if number == 100 else line

    figures = virtual_run(lines(), f"{SLOW},rpm=4000,bucket_s=10", RPM)
    assert (figures.succeeded, figures.failed) == (999, 1)
    assert figures.accepted()[-1].at <= 40, "fifteen seconds at the even pace, and the refusals' own"
    assert figures.seconds < 600


def test_a_large_request_among_small_ones_goes_out_within_the_accounts_depth() -> None:
    """It waits for the brim, at most `DEPTH_S`, once what stood before it has gone out; then the others wait for it."""

    def lines() -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(numbered(2000)):
            yield {"id": "large", "prompt": "word " * 120_000} if number == 500 else line

    limits = Limits(Rate(2000, 60.0), itpm=400_000)
    figures = virtual_run(lines(), "latency=0.5,itpm=400000,bucket_s=10", RunSettings(limits=limits))
    [place] = [n for n, one in enumerate(figures.seen) if one.arrival.input_tokens > 100_000]
    assert 490 <= place <= 510, "nobody overtakes it"
    assert figures.seen[place].at - figures.seen[place - 1].at <= DEPTH_S + 0.2
    assert figures.statuses == {200: 2000}


def test_of_two_models_one_that_is_cooled_down_does_not_hold_the_other() -> None:
    def lines() -> Iterator[Mapping[str, Any]]:
        for number, line in enumerate(numbered(4000)):
            if number == 0:
                yield {"id": "cold", "prompt": "[[sim:429*1]] x", "model": "claude-sonnet-5"}
            else:
                yield {**line, "model": "claude-sonnet-5" if number % 2 else "claude-haiku-4-5"}

    figures = virtual_run(lines(), "latency=1,rpm=2000,bucket_s=10,retry_after=60")
    assert figures.failed == 0
    warm = [one.at for one in figures.accepted("claude-haiku-4-5")]
    assert warm[-1] <= 2000 / (2000 / 60.25) + 5, "as quick as alone"
    assert max(later - sooner for sooner, later in pairwise(warm[100:])) < 0.2
    cold = [one.at for one in figures.accepted("claude-sonnet-5")]
    gap = max(later - sooner for sooner, later in pairwise(cold))
    assert gap >= 59, "it was cooled down meanwhile"


def test_a_herd_at_a_limit_that_nobody_names_loses_no_request() -> None:
    figures = virtual_run(numbered(400), "latency=1,rpm=600,bucket_s=1,headers=0", RunSettings(limits=Limits(None, 50)))
    assert (figures.succeeded, figures.failed) == (400, 0)
    assert figures.refused_share <= 0.05


def test_what_would_help_is_said_only_where_it_would() -> None:
    slow = "latency=30,rpm=4000"
    few = virtual_run(numbered(200), slow, RunSettings(limits=Limits(concurrency=20))).report
    assert few is not None
    assert "20 calls in flight; -j permits more" in few.waits[0]

    async def lower_the_rate(scene: Scene) -> None:
        await anyio.sleep(30.0)
        owner = last_owner(scene.store)
        assert owner is not None
        assert owner.name is not None
        sent = send(scene.store, owner.name, Tuning(rate=Rate(300, 60.0)).as_json())
        assert sent is not None
        sent.close()

    changed = virtual_run(numbered(3000), "latency=1", RPM, beside=lower_the_rate)
    assert changed.report is not None
    (told,) = changed.report.waits
    match = re.search(r"takes about (\d) min (\d\d) s less", told)
    assert match is not None, told
    told_s = 60 * int(match[1]) + int(match[2])  # in whole seconds
    assert told_s - 0.5 <= changed.seconds / 2, "twice a limit halves the run at best"
