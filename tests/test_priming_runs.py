"""Whole runs over requests that share a marked prefix: one goes first, nobody waits in a slot, everything is answered."""

import random
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from batchrunner import parking
from batchrunner.model import Attempt
from batchrunner.parking import Parking
from batchrunner.policy.sampling import Sampling
from batchrunner.policy.sharing import Sharing
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.ledger import Arrival
from batchrunner.simulator.server import serve
from batchrunner.store.schema import SCHEMA_VERSION
from running import KEY, WatchedLedger, job_file, rows, run_job
from virtual import Figures, World, virtual_run
from virtual.sharing import MODEL, input_cost, sharing, writes

MARK = {"type": "ephemeral"}
LATENCY = "latency=lognormal:1..10"


def settings(*, rate: str = "60000/min", in_flight: int = 50, prime: bool = True, **more: Any) -> RunSettings:
    return RunSettings(limits=Limits(Rate.parse(rate), in_flight), sharing=Sharing(prime=prime), **more)


def all_answered(figures: Figures, count: int) -> bool:
    return (figures.succeeded, figures.failed, len(figures.accepted())) == (count, 0, count)


def test_a_group_is_written_once_and_read_by_all_others_at_hardly_any_cost_in_time() -> None:
    lines = list(sharing(300, tokens=4000, mark=MARK))
    primed, unprimed = virtual_run(lines, LATENCY, settings()), virtual_run(lines, LATENCY, settings(prime=False))
    plain = virtual_run(sharing(300, tokens=4000), LATENCY, settings())
    assert all_answered(primed, 300)
    assert (writes(primed), writes(unprimed)) == (1, 50)
    assert input_cost(primed) <= 0.7 * input_cost(unprimed)
    assert input_cost(primed) <= 0.12 * input_cost(plain)
    assert primed.seconds <= 1.05 * unprimed.seconds


def test_groups_that_take_turns_in_the_file_are_sent_together_and_written_once_each() -> None:
    figures = virtual_run(sharing(600, groups=12, tokens=1200, mark=MARK), LATENCY, settings())
    assert all_answered(figures, 600)
    assert writes(figures) == 12


def test_the_one_that_goes_first_is_streamed_so_that_the_others_follow_its_first_byte() -> None:
    figures = virtual_run(sharing(2, tokens=1200, mark=MARK), "latency=10", settings())
    first, second = figures.seen
    assert 2 < second.at - first.at < 2.5  # a fifth of the latency, and the ways


def test_other_groups_and_unmarked_requests_go_on_while_one_waits() -> None:
    group, other = sharing(3, tokens=1200, mark=MARK), sharing(1, tokens=1300, mark=MARK)
    plain = [{"id": f"p{i}", "prompt": f"Question {i}.", "model": MODEL} for i in range(5)]
    lines = [*plain, *group, *({**line, "id": "other"} for line in other)]
    figures = virtual_run(lines, "latency=10", settings())
    assert all_answered(figures, 9)
    assert len(figures.between(0, 1)) == 7  # the two that write, and those without a prefix


def test_one_that_fails_hands_over_to_the_next() -> None:
    lines = list(sharing(10, tokens=1200, mark=MARK))
    lines[0]["prompt"] = "[[sim:400]] never"
    lines[1]["prompt"] = "[[sim:500*1]] not at once"
    figures = virtual_run(lines, "latency=1", settings())
    assert (figures.succeeded, figures.failed) == (9, 1)
    assert writes(figures) == 1


def test_what_has_lapsed_is_written_anew_by_one() -> None:
    """At a request in five minutes and a half every one of them finds the cache empty; at one in four none does."""
    for rate, expected in (("4/22min", 4), ("4/16min", 1)):
        figures = virtual_run(sharing(4, tokens=1200, mark=MARK), "latency=1", settings(rate=rate))
        assert writes(figures) == expected


def test_what_the_cache_delivers_does_not_count_against_the_limit_on_input() -> None:
    spec = f"{LATENCY},itpm=20000,bucket_s=10"
    primed = virtual_run(sharing(300, tokens=1200, mark=MARK), spec, settings())
    assert all_answered(primed, 300)
    assert primed.statuses == {200: 300}
    # 300 rows have some 30 tokens of their own: half a minute's worth, where all of the input would be 18 minutes.
    assert primed.seconds < 60


def test_an_endpoint_without_a_cache_is_noticed_and_nobody_waits_any_more() -> None:
    figures = virtual_run(sharing(200, tokens=1200, mark=MARK), f"{LATENCY},cache=0", settings(in_flight=20))
    assert all_answered(figures, 200)
    assert figures.seconds < 200 / 20 * 4.3 + 12


def test_rows_that_are_marked_to_their_end_wait_for_nobody() -> None:
    lines = [
        {
            "id": f"r{i}",
            "model": MODEL,
            "prompt": f"{i} " + "abc " * 1200,
            "max_tokens": 100,
            "cache_control": MARK,
        }
        for i in range(40)
    ]
    figures = virtual_run(lines, "latency=5", settings())
    assert all_answered(figures, 40)
    assert len(figures.between(0, 1)) == 40


@pytest.mark.parametrize(
    ("bound", "shuffle"), [("MOST_PARKED", True), ("MOST_CHARS", False)], ids=["by chance", "by groups"]
)
def test_what_waits_is_read_ahead_up_to_a_bound_only(
    bound: str, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most: list[int] = [0]
    parks = Parking.parks

    def watched(self: Parking, due: deque[Attempt]) -> bool:
        parked = parks(self, due)
        most[0] = max(most[0], self.count)
        return parked

    monkeypatch.setattr(Parking, "parks", watched)
    monkeypatch.setattr(parking, bound, 300 if bound == "MOST_PARKED" else 300 * 5000)
    lines = list(sharing(1200, groups=2, tokens=1200, mark=MARK))
    figures = virtual_run(lines, "latency=10", settings(in_flight=200, sampling=Sampling(shuffle=shuffle)))
    assert all_answered(figures, 1200)
    assert 300 < most[0] <= 300 + 500  # a claim reads so many at a time
    assert writes(figures) == 2


def test_an_order_drawn_by_chance_is_kept_and_still_written_once() -> None:
    lines = list(sharing(60, groups=3, tokens=1200, mark=MARK))
    figures = virtual_run(lines, LATENCY, settings(sampling=Sampling(shuffle=True)))
    assert all_answered(figures, 60)
    assert writes(figures) == 3


def test_the_run_says_what_it_waits_for() -> None:
    figures = virtual_run(sharing(30, tokens=1200, mark=MARK), "latency=60", settings())
    assert figures.report is not None
    assert figures.report.waits == ["waited 12 s for the prompt cache to be written"]
    assert figures.report.counts.cache_read_tokens == 29 * 1200


class Noting(WatchedLedger):
    """Remembers how many answers were out at each arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.ended_before: list[int] = []

    def arrive(self, arrival: Arrival, now: float) -> None:
        super().arrive(arrival, now)
        self.ended_before.append(self.ends)


@pytest.mark.anyio
async def test_over_the_wire_the_others_follow_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    lines = list(sharing(40, tokens=1200, mark=MARK))
    lines[0]["prompt"] = "[[sim:delay=5]] the first"
    path = job_file(tmp_path / "jobs.jsonl", lines)
    async with serve(Simulator(parse_spec("latency=0.05"), ledger := Noting())) as url:
        report = await run_job(path, url, settings(in_flight=40))
        summary = ledger.summary()
    assert (report.totals.succeeded, summary.cache_writes, summary.cache_reads) == (40, 1, 39)
    assert ledger.ended_before[:2] == [0, 0]
    store = path.with_suffix(".db")
    assert rows(store, "SELECT sum(cache_read_tokens), sum(cache_write_tokens) FROM attempts") == [(39 * 1200, 1200)]
    assert rows(store, "PRAGMA user_version") == [(SCHEMA_VERSION,)]


def mixed(count: int, seed: int) -> list[dict[str, Any]]:
    """Requests of every kind in random order: unmarked, with one mark, with two of which the first is shared by more."""
    chance = random.Random(seed)
    lines: list[dict[str, Any]] = []
    for number in range(count):
        line: dict[str, Any] = {"id": f"r{number}", "model": MODEL, "prompt": f"Question {number}"}
        if kind := chance.randrange(4):
            tools = {"name": "look_up", "description": "abc " * 1100, "input_schema": {"type": "object"}}
            mark = {"type": "ephemeral", "ttl": "1h"} if kind == 3 else MARK
            system = {
                "type": "text",
                "text": f"Reviewer {chance.randrange(5)}. " + "abc " * 1100,
                "cache_control": MARK,
            }
            line |= {"tools": [tools | {"cache_control": mark}]} if kind > 1 else {}
            line |= {"system": [system]}
        lines.append(line)
    return lines


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_shared_and_whatever_fails_everything_is_answered_and_nothing_waits_for_ever(seed: int) -> None:
    faults = "500=0.1,429=0.05,reset=0.05,529=0.05,hang=0.02,retry_after=2"
    figures = virtual_run(
        mixed(150, seed),
        f"{LATENCY},rpm=1200,{faults}",
        settings(rate="1200/min", in_flight=30, timeout_s=30.0),
        world=World(seed=seed),
    )
    assert figures.succeeded + figures.failed == 150
    assert figures.failed <= 3
    # Five groups behind the same tools, five without: each is written once, and again where a call that wrote was lost.
    assert writes(figures) <= 40
    assert figures.seconds < 300


def test_another_endpoint_has_another_cache() -> None:
    lines = list(sharing(60, groups=2, tokens=1200, mark=MARK))
    figures = virtual_run(
        lines,
        f"{LATENCY},outage=3..400",
        settings(in_flight=10),
        world=World(fallbacks=(f"{LATENCY}",)),
    )
    assert (figures.succeeded, figures.failed) == (60, 0)
