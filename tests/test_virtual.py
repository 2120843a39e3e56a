"""The proving ground itself: runs in virtual time are whole, repeatable, and see what the server sees."""

import random
from collections import Counter

import anyio
import pytest
from anyio import to_thread

from batchrunner.model import ErrorClass
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from batchrunner.simulator import Simulator, parse_spec
from virtual import (
    Figures,
    Line,
    SeeingLedger,
    Seen,
    VirtualClock,
    VirtualServer,
    World,
    in_virtual_time,
    inline_threads,
    numbered,
    virtual_run,
)

CLOCK = VirtualClock()


def at_rate(text: str, concurrency: int = 100) -> RunSettings:
    return RunSettings(limits=Limits(Rate.parse(text), concurrency))


def shape(figures: Figures) -> list[tuple[float, str, int, int]]:
    return [(one.at, one.arrival.body, one.arrival.attempt, one.arrival.status) for one in figures.seen]


def test_a_paced_run_is_never_refused_and_never_over_the_limit_at_the_server() -> None:
    figures = virtual_run(numbered(2400), "latency=lognormal:1..10,rpm=1200,bucket_s=1", at_rate("1200/min"))
    assert figures.statuses == {200: 2400}
    assert 1180 <= figures.max_in_window(60) <= 1200
    assert figures.goodput >= 0.99
    assert (figures.succeeded, figures.failed, figures.refused_share) == (2400, 0, 0.0)
    assert 2400 / 20 < figures.seconds < 2400 / 20 + 12


def test_equal_seeds_give_equal_runs_and_other_seeds_others() -> None:
    spec = "latency=lognormal:1..10,rpm=600,bucket_s=1,tenant=10..:0.5,500=0.05"
    one, again, other = (
        virtual_run(numbered(300), spec, at_rate("600/min"), world=World(seed=seed)) for seed in (1, 1, 2)
    )
    assert one.statuses.keys() == {200, 429, 500}
    assert shape(one) == shape(again)
    assert one.seconds == again.seconds
    assert shape(one) != shape(other)


def test_a_run_that_is_set_too_fast_is_refused_and_ends_all_the_same() -> None:
    figures = virtual_run(numbered(200), "latency=1,rpm=600,bucket_s=1", at_rate("1200/min"))
    assert figures.refused_share == figures.statuses[429] / figures.sent > 0
    assert figures.succeeded + figures.failed == 200
    assert len(figures.accepted()) == figures.succeeded


def test_goodput_is_held_against_the_refill_that_was_ours() -> None:
    spec = "latency=1,rpm=600,bucket_s=10,tenant=0..:0.5"
    figures = virtual_run(numbered(200), spec, at_rate("300/min"))
    assert figures.statuses == {200: 200}
    assert figures.goodput == pytest.approx(1.0, abs=0.02)
    assert virtual_run(numbered(200), spec, at_rate("150/min")).goodput == pytest.approx(0.5, abs=0.02)


def test_goodput_adds_up_the_models_and_stops_at_the_last_acceptance_of_each() -> None:
    lines = [*numbered(100), *({"id": f"s{i}", "prompt": f"{i}", "model": "claude-sonnet-5"} for i in range(20))]
    figures = virtual_run(lines, "latency=60,rpm=600", at_rate("600/min", 200))
    assert len(figures.accepted("claude-sonnet-5")) == 20
    assert figures.goodput == pytest.approx(1.0, abs=0.1)


def test_used_output_is_what_was_produced_for_the_accepted() -> None:
    spec = "latency=2,output_tokens=100,otpm=60000,bucket_s=10"
    figures = virtual_run(numbered(300), spec, at_rate("300/min"))
    assert figures.output_used == pytest.approx(0.5, abs=0.02)


def test_rows_fail_for_what_the_simulator_made_of_them() -> None:
    lines: list[Line] = [*numbered(30), "[[sim:400]] a", "[[sim:529*2]] b", "[[sim:reset*1]] c", "[[sim:200_html]] d"]
    figures = virtual_run(lines, "latency=0.5")
    assert (figures.succeeded, figures.failed) == (32, 2)
    assert figures.report is not None
    assert figures.report.counts.failures == Counter({ErrorClass.INVALID: 1, ErrorClass.BAD_RESPONSE: 1})
    assert figures.statuses[529] == 2


def test_a_silent_server_is_given_up_at_the_deadline() -> None:
    figures = virtual_run(["[[sim:hang*1]] a", "b"], "latency=1")
    assert (figures.succeeded, figures.failed) == (2, 0)
    assert 600 < figures.seconds < 620


def test_a_run_that_is_stuck_is_told_apart_from_a_long_one() -> None:
    with pytest.raises(TimeoutError):
        virtual_run(numbered(3), "latency=200", world=World(at_most_s=100))


def test_a_message_takes_the_network_the_answer_and_the_network() -> None:
    async def scene() -> tuple[list[float], SeeingLedger]:
        ledger = SeeingLedger()
        server = VirtualServer(Simulator(parse_spec("latency=3"), ledger), CLOCK, random.Random(1), (0.02, 0.06))
        spans = []
        for n in range(50):
            begun = server.now()
            sent: list[float] = []
            body = b'{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"%d"}]}' % n
            response = await server.post(body, lambda: sent.append(server.now()))  # noqa: B023 - called within post
            assert response.status == 200
            assert sent == [begun]
            spans.append(server.now() - begun)
        return spans, ledger

    spans, ledger = in_virtual_time(scene)
    assert min(spans) >= 3.04
    assert max(spans) <= 3.1201
    assert len({round(span, 6) for span in spans}) == 50
    assert ledger.summary().paid == 50
    assert ledger.summary().open == 0


def test_threads_work_in_place_and_take_virtual_time() -> None:
    async def scene() -> tuple[list[float], bool]:
        one_at_a_time = anyio.CapacityLimiter(1)
        done: list[float] = []

        async def work() -> None:
            await to_thread.run_sync(lambda: None, limiter=one_at_a_time)
            done.append(CLOCK.monotonic() - start)

        with inline_threads(0.5):
            start = CLOCK.monotonic()
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(work)
            with anyio.move_on_after(0.2):
                await to_thread.run_sync(done.append, -1.0)
            waited = CLOCK.monotonic() - start
        return done, waited >= 2.0

    done, was_shielded = in_virtual_time(scene)
    assert done == pytest.approx([0.5, 1.0, 1.5, -1.0], abs=1e-4)
    assert was_shielded


def test_what_the_server_saw_can_be_looked_through() -> None:
    figures = virtual_run(numbered(5), "latency=1")
    assert [type(one) for one in figures.seen] == [Seen] * 5
    assert [one.arrival.action for one in figures.accepted()] == ["answered"] * 5
    assert figures.seen == sorted(figures.seen, key=lambda one: one.at)
    with pytest.raises(ValueError, match="no such limit"):
        _ = figures.goodput
