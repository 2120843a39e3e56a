"""Refusals that no pace is slow enough for."""

import random

import pytest

from batchrunner.policy.requests import RequestLimit
from batchrunner.policy.stray import IN_VAIN, StrayRefusals
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings
from virtual import numbered, virtual_run


def cuts(stray: StrayRefusals, rates: list[float], *, every_s: float, every_sends: int) -> list[bool]:
    """Refuse one of *every_sends* at each of *rates*; return what was said of each cut."""
    said = []
    for n, rate in enumerate(rates, 1):
        stray.refused(n * every_s, n * every_sends)
        said.append(stray.cut(n * every_s, n * every_sends, rate))
    return said


FALLING = [100 * 0.9**n for n in range(IN_VAIN)]


def test_cuts_that_change_nothing_were_in_vain() -> None:
    stray = StrayRefusals()
    assert cuts(stray, FALLING, every_s=5.0, every_sends=100) == [False] * (IN_VAIN - 1) + [True]
    assert stray.share == pytest.approx(0.01)
    assert stray.refused(60.0, 700)


def test_a_limit_that_stands_where_it_stands_is_no_stray_refusal() -> None:
    assert not any(cuts(StrayRefusals(), [60.0, 61.0, 60.0] * 4, every_s=10.0, every_sends=500))


def test_a_limit_that_was_halved_is_found_and_is_no_stray_refusal() -> None:
    halved = [66.3, 45.7, 41.0, 36.7, 37.7, 35.7, 36.1, 35.2, 36.8]
    assert not any(cuts(StrayRefusals(), halved, every_s=9.0, every_sends=400))


def test_a_limit_that_refuses_many_is_met() -> None:
    assert not any(cuts(StrayRefusals(), FALLING, every_s=5.0, every_sends=9))


def test_refusals_minutes_apart_say_nothing_of_each_other() -> None:
    assert not any(cuts(StrayRefusals(), FALLING, every_s=45.0, every_sends=1000))


def test_refusals_that_become_many_are_about_the_rate_after_all_and_the_error_is_not_made_again_at_once() -> None:
    stray = StrayRefusals()
    cuts(stray, FALLING, every_s=5.0, every_sends=100)
    heeded = [not stray.refused(40.0, 700 + n) for n in range(10)]
    assert heeded == [False] * 9 + [True]
    assert stray.share is None
    stray.cut(40.0, 715, 100.0)
    assert not any(
        stray.cut(41.0 + n, 800 + 100 * n, rate) for n, rate in enumerate(FALLING) if not stray.refused(41.0 + n, 800)
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_refusals_that_no_pace_changes_leaves_the_pace_as_it_was(seed: int) -> None:
    rng, limit, now = random.Random(seed), RequestLimit(Rate(6000, 60.0)), 0.0
    for _ in range(20_000):
        now = max(now + 1 / limit.pace(now)[0], limit.admit_at(now))
        limit.reserve()
        limit.stamp(now)
        if rng.random() < 0.01 and not limit.stray.refused(now, limit.sends):
            limit.refused(now, now)
    assert limit.pace(now)[0] > 95.0
    assert now < 20_000 / 100 * 1.25


def test_a_gateway_with_a_bad_channel_costs_a_run_little_more_than_the_calls_it_refuses() -> None:
    settings = RunSettings(limits=Limits(Rate(4000, 60.0)))
    figures = virtual_run(numbered(4000), "latency=1..3,headers=0,429=0.01,retry_after=0", settings)
    assert figures.failed == 0
    assert figures.seconds < 2 * 4000 / 4000 * 60
