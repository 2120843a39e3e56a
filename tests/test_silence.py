"""An endpoint that takes every call and answers none: noticed after two minutes, told, and nothing paid is cancelled."""

import re

import anyio
import pytest

from batchrunner.policy.silence import NOTICED_S, TRY_S
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from batchrunner.store.read import Reader
from virtual import Figures, Scene, World, numbered, virtual_run

PACE = RunSettings(limits=Limits(Rate(120, 60.0)))


def sent_between(figures: Figures, from_s: float, to_s: float) -> int:
    return len(figures.between(from_s, to_s))


def test_a_hang_from_the_first_call_is_told_and_holds_up_sending() -> None:
    figures = virtual_run(numbered(1000), "latency=1,silence=0..400", PACE, world=World(at_most_s=1500))
    assert (figures.succeeded, figures.failed) == (1000, 0)
    told = [line for line in figures.notes.splitlines() if "nothing has come back" in line]
    assert re.search(r"nothing has come back for 2 min 0\d s; [\d,]+ in flight\. On hold", told[0]), told[0]
    assert "--timeout" in told[0]
    assert len(told) >= 4, "and again every minute"
    assert sent_between(figures, NOTICED_S + 3, 395) <= 280 / TRY_S
    assert sent_between(figures, 400, 400 + 1.5 * TRY_S) > 50, "a try notices its end, long before the deadlines"
    assert "something comes back again after" in figures.notes


def test_what_is_in_flight_is_not_cancelled() -> None:
    """They are answered in the end: two hundred seconds is what an answer takes here."""
    figures = virtual_run(numbered(40), "latency=200", PACE)
    assert figures.statuses == {200: 40}
    assert "nothing has come back for 2 min" in figures.notes


@pytest.mark.parametrize("concurrency", [5, None])
def test_calls_that_a_silence_has_swallowed_hold_up_nobody_once_it_is_over(concurrency: int | None) -> None:
    """With `-j` no more than that many are ever out, so there the deadlines must pass first."""
    settings = RunSettings(limits=Limits(Rate(120, 60.0), concurrency), timeout_s=900.0)
    figures = virtual_run(numbered(800), "latency=1,silence=0..130", settings, world=World(at_most_s=3000))
    assert (figures.succeeded, figures.failed) == (800, 0)
    assert (figures.accepted()[-400].at < 500) == (concurrency is None)
    if concurrency is not None:
        assert figures.report is not None
        assert "any answer" in " ".join(figures.report.waits)


def test_a_stream_that_has_begun_is_a_sign_of_life() -> None:
    lines = [{**line, "stream": True} for line in numbered(20)]
    figures = virtual_run(lines, "latency=500", PACE)
    assert figures.succeeded == 20
    assert "nothing has come back" not in figures.notes


def test_the_bar_and_the_status_say_so() -> None:
    seen: list[str] = []

    async def beside(scene: Scene) -> None:
        await anyio.sleep(300.0)
        with Reader(scene.store) as reader:
            (run,) = reader.latest_runs()
            seen.extend(lane.reason for lane in reader.held_back(run))

    virtual_run(numbered(800), "latency=1,silence=0..350", PACE, beside=beside)
    assert seen == ["any answer"]


def test_another_endpoint_takes_over() -> None:
    figures = virtual_run(
        numbered(800),
        "latency=1,silence=0..5000",
        RunSettings(limits=Limits(Rate(120, 60.0)), timeout_s=900.0),
        world=World(fallbacks=("latency=1",), at_most_s=3000),
    )
    assert (figures.succeeded, figures.failed) == (800, 0)
    assert "nothing has come back for 2 min" in figures.notes
    assert sent_between(figures, NOTICED_S + 3, 890) <= 1, "what is left goes to the other one"


def test_a_silence_ends_the_run_when_it_lasts_as_long_as_an_outage_may() -> None:
    settings = RunSettings(limits=Limits(Rate(120, 60.0), 20), max_outage_s=300.0)
    figures = virtual_run(numbered(500), "latency=1,silence=0..9000", settings)
    assert figures.report is not None
    assert figures.report.exit_code == 4
    assert "Nothing was answered for 5 min" in (figures.report.reason or "")
    assert figures.seconds < 650, "what is in flight has its deadline"


def test_one_call_that_takes_long_is_told_and_comes_to_its_end() -> None:
    figures = virtual_run(["[[sim:delay=300]] x"], "latency=1")
    assert (figures.succeeded, figures.failed) == (1, 0)
    assert "nothing has come back for 2 min" in figures.notes
