"""Caps on money and time, in whole runs in virtual time; the server's own ledger is the witness."""

import random

import pytest

from batchrunner.errors import Exit
from batchrunner.policy.caps import Caps
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator.ledger import Arrival
from virtual import Figures, World, numbered, virtual_run

RATE = Limits(Rate(600, 60.0))


def test_a_run_ends_within_its_time_with_every_answer_collected() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=120.0))
    figures = virtual_run(numbered(5000), "latency=2..6,rpm=600", settings)
    assert figures.report is not None
    assert figures.report.exit_code is Exit.LIMIT
    assert figures.report.ending == "stopped"
    assert "--max-duration" in (figures.report.reason or "")
    assert 112.0 < figures.seconds <= 121.0
    assert figures.succeeded == figures.sent == figures.report.counts.sent
    assert figures.report.totals.pending == 5000 - figures.sent
    assert figures.sent > 1000


def test_a_run_that_is_done_in_time_is_finished_however_late_its_last_answers_are() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=12.0))
    figures = virtual_run(numbered(60), "latency=5..7,rpm=600", settings)
    assert figures.report is not None
    assert (figures.report.ending, figures.report.exit_code) == ("finished", Exit.OK)


def test_time_that_is_too_short_for_any_answer_is_told_and_costs_nothing_beyond_the_first_calls() -> None:
    settings = RunSettings(limits=RATE, caps=Caps(max_duration_s=3.0))
    figures = virtual_run(numbered(500), "latency=30,rpm=600", settings)
    assert figures.report is not None
    assert figures.report.exit_code is Exit.LIMIT
    assert figures.sent <= 40
    assert figures.succeeded == figures.sent


#: The API's list, USD per token: claude-haiku-4-5.
INPUT_USD, OUTPUT_USD = 1e-6, 5e-6


def cost_of(arrival: Arrival) -> float:
    """Return what the server billed for one arrival."""
    return arrival.paid * (arrival.input_tokens * INPUT_USD + arrival.output_tokens * OUTPUT_USD)


def bill_of(figures: Figures) -> list[float]:
    """Return what the server billed, arrival by arrival."""
    return [cost_of(one.arrival) for one in figures.seen]


@pytest.mark.parametrize("seed", range(6))
def test_a_cap_on_the_cost_is_used_and_hardly_exceeded(seed: int) -> None:
    """Whatever the sizes, the latencies and the number of calls in flight; and every answer that was paid is there."""
    rng = random.Random(seed)
    slots, max_tokens = rng.choice((1, 10, 50, 150)), rng.choice((300, 1024, 4096))
    spread = rng.choice(("uniform:20..200", "lognormal:20..4000:0.8", "150"))
    spec = f"latency=0.5..{rng.choice((1, 5))},output_tokens={spread},500={rng.choice((0, 0.05))}"
    lines = [*numbered(2500, max_tokens=max_tokens)]
    limits = Limits(Rate(6000, 60.0), slots)
    whole = sum(bill_of(virtual_run(lines, spec, RunSettings(limits=limits), world=World(seed=seed))))
    cap = whole * rng.uniform(0.3, 0.8)
    figures = virtual_run(lines, spec, RunSettings(limits=limits, caps=Caps(max_cost_usd=cap)), world=World(seed=seed))
    report, bill = figures.report, bill_of(figures)
    assert report is not None
    assert report.exit_code is Exit.LIMIT
    assert "--max-cost" in (report.reason or "")
    assert 0.95 * cap <= sum(bill) <= cap + slots * (100 * INPUT_USD + max_tokens * OUTPUT_USD)
    assert sum(cost > 0 for cost in bill) == report.totals.succeeded + report.totals.failed
    assert report.totals.pending > 0
