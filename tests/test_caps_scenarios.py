"""Caps on money and time, in whole runs in virtual time; the server's own ledger is the witness."""

from batchrunner.errors import Exit
from batchrunner.policy.caps import Caps
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from virtual import numbered, virtual_run

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
