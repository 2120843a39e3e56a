"""The breaker: an outage is noticed early, watched by few probes, blamed on nobody, and its end is noticed early."""

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.model import ErrorClass
from batchrunner.policy.breaker import DOUBT_S, OUTAGE, PROBE_S, Breaker

DOWN = ErrorClass.OVERLOADED


def breaker_of(seed: int = 1) -> Breaker:
    return Breaker(random.Random(seed))


def opened_at(now: float) -> Breaker:
    """Return a breaker that five failures of five requests have opened at *now*; they took a tenth of a second each."""
    breaker = breaker_of()
    for seq in range(5):
        breaker.failed(now, now - 0.1, seq, DOWN)
    assert breaker.opened_at == now
    return breaker


def probed_at(breaker: Breaker, now: float) -> None:
    assert breaker.admit_at(now) <= now
    assert not breaker.reserve(now)
    breaker.sent(now)


# When it opens.


def test_ten_failures_that_are_half_of_the_latest_open_it() -> None:
    breaker = breaker_of()
    for n in range(9):
        breaker.answered(100.0, 99.0)
        assert not breaker.failed(100.0, 99.0, n, DOWN)
    breaker.answered(100.0, 99.0)
    assert breaker.failed(100.0, 99.0, 9, DOWN)
    assert breaker.is_open


def test_a_third_of_failures_is_no_outage() -> None:
    breaker = breaker_of()
    for n in range(300):
        now = 100.0 + n / 100
        breaker.answered(now, now - 1.0)
        breaker.answered(now, now - 1.0)
        assert not breaker.failed(now, now - 1.0, n, DOWN)


def test_answers_that_take_a_minute_count_when_they_come() -> None:
    """One in five fails at once, the others are answered a minute after they were sent: no outage."""
    breaker = breaker_of()
    for n in range(2000):
        now = 100.0 + n / 50
        if n % 5:
            breaker.answered(now, now - 60.0)
        else:
            assert not breaker.failed(now, now - 0.1, n, DOWN)


def test_in_a_busy_lane_five_failures_in_a_row_are_chance() -> None:
    breaker, rng = breaker_of(), random.Random(1)
    for n in range(50_000):
        now = 100.0 + n / 60
        if rng.random() < 0.15:  # five in a row come about four times, half of fifty never
            assert not breaker.failed(now, now - 0.1, n, DOWN)
        else:
            breaker.answered(now, now - 4.0)


def test_failures_of_long_ago_do_not_count() -> None:
    breaker = breaker_of()
    for n in range(300):
        now = 100.0 + 2.0 * n
        assert not breaker.failed(now, now - 1.0, n, DOWN)
        breaker.answered(now, now - 1.0)


@pytest.mark.parametrize("error_class", sorted(OUTAGE - {ErrorClass.BAD_RESPONSE}))
def test_five_failures_in_a_row_of_different_requests_open_it(error_class: ErrorClass) -> None:
    """A small job never has ten failures in ten seconds."""
    breaker = breaker_of()
    assert [breaker.failed(100.0 + 10 * n, 99.0 + 10 * n, n, error_class) for n in range(5)] == [False] * 4 + [True]


def test_an_answer_of_any_kind_between_them_starts_the_row_anew() -> None:
    breaker = breaker_of()
    for n in range(40):
        now = 100.0 + 11.0 * n
        assert not breaker.failed(now, now - 1.0, n, DOWN)
        if n % 4 == 3:
            breaker.answered(now, now)


def test_five_in_a_row_over_more_than_a_minute_are_no_outage() -> None:
    breaker = breaker_of()
    for n in range(20):
        assert not breaker.failed(100.0 + 16.0 * n, 99.0 + 16.0 * n, n, DOWN)


def test_one_row_that_fails_for_ever_while_others_are_under_way_is_no_outage() -> None:
    breaker = breaker_of()
    for n in range(50):
        assert not breaker.failed(100.0 + 2.0 * n, 99.9 + 2.0 * n, 7, DOWN)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_last_few_rows_have_the_benefit_of_the_doubt_for_three_minutes(rows: int) -> None:
    """They may be bad themselves, so the doubt ends; an outage of two minutes blames none of them."""
    breaker, now, counted = breaker_of(), 100.0, []
    for n in range(200):
        now = max(now + 2.0, breaker.admit_at(now))
        breaker.reserve(now)
        breaker.sent(now)
        if not breaker.failed(now + 0.1, now, n % rows, DOWN, under_way=rows):
            counted.append(now)
    assert len(counted[:4]) == 4
    assert counted[3] <= 108.0
    assert DOUBT_S <= counted[4] - counted[3] <= DOUBT_S + 10.0


def test_when_a_fourth_request_fails_there_is_no_doubt_left() -> None:
    breaker = breaker_of()
    for n in range(5):
        breaker.failed(100.0 + n, 99.9 + n, 1, DOWN, under_way=1)
    doubts = [breaker.is_in_doubt]
    for seq in (2, 3, 4):
        assert breaker.failed(110.0, 109.9, seq, DOWN, under_way=4)
        doubts.append(breaker.is_in_doubt)
    assert doubts == [True, True, True, False]
    assert breaker.failed(110.0 + 2 * DOUBT_S, 109.0 + 2 * DOUBT_S, 1, DOWN, under_way=1)


def test_a_broken_answer_is_an_outage_only_where_answers_have_come_before() -> None:
    """A wrong address answers with HTML from the first call on; a gateway that breaks does so later."""
    breaker = breaker_of()
    for n in range(50):
        assert not breaker.failed(100.0, 99.0, n, ErrorClass.BAD_RESPONSE)
    breaker.answered(100.0, 99.0)
    assert [breaker.failed(100.0, 99.5, n, ErrorClass.BAD_RESPONSE) for n in range(5)][-1]


# While it is open.


def test_it_holds_everything_but_a_probe_every_three_seconds() -> None:
    breaker = opened_at(100.0)
    first = breaker.admit_at(100.0)
    assert 0.9 * PROBE_S <= first - 100.0 <= PROBE_S
    probed_at(breaker, first)
    assert breaker.admit_at(first) > first
    assert breaker.failed(first + 0.1, first, 77, DOWN)
    second = breaker.admit_at(first + 0.1)
    assert 0.9 * PROBE_S <= second - first <= PROBE_S


def test_after_five_minutes_the_probes_are_rarer() -> None:
    breaker = opened_at(100.0)
    now = 401.0
    probed_at(breaker, now)
    breaker.failed(now + 0.1, now, 77, DOWN)
    assert 4.5 <= breaker.admit_at(now + 0.1) - now <= 5.0


def test_an_admission_that_was_not_sent_is_no_probe_and_holds_up_no_other() -> None:
    breaker = opened_at(100.0)
    first = breaker.admit_at(100.0)
    breaker.reserve(first)
    assert 0.9 * PROBE_S <= breaker.admit_at(first) - first <= PROBE_S


def test_at_most_three_probes_are_out_and_the_next_start_still_has_an_instant() -> None:
    breaker = opened_at(100.0)
    breaker.failed(105.0, 101.0 - 0.5, 1, DOWN)  # failures take four and a half seconds
    now, probes = 105.0, 0
    while not breaker.on_trial and probes < 10:
        now = max(now, breaker.admit_at(now))
        assert now < math.inf
        if not breaker.reserve(now):
            breaker.sent(now)
            probes += 1
    assert breaker.on_trial
    assert probes <= 4


def test_answers_to_what_was_sent_before_the_outage_say_nothing() -> None:
    breaker = opened_at(100.0)
    for n in range(50):
        assert not breaker.answered(101.0, 100.0 - n)
    assert breaker.is_open
    assert breaker.admit_at(100.0) > 100.0


def test_an_answered_probe_ends_the_outage() -> None:
    breaker = opened_at(100.0)
    first = breaker.admit_at(100.0)
    probed_at(breaker, first)
    assert breaker.answered(first + 1.0, first), "it frees a lane that was held"
    assert not breaker.is_open
    assert breaker.admit_at(first + 0.3) == first + 0.3


def test_failures_of_what_was_sent_before_the_end_are_excused_and_do_not_open_it_again() -> None:
    breaker = opened_at(100.0)
    first = breaker.admit_at(100.0)
    probed_at(breaker, first)
    breaker.answered(first + 1.0, first)
    for n in range(50):
        assert breaker.failed(first + 1.0, first - n / 10, n, DOWN)
    assert not breaker.is_open
    assert not breaker.failed(first + 1.0, first + 0.5, 50, DOWN)


# On trial.


def on_trial_at(breaker: Breaker) -> float:
    """Let the first probe stay out for long, and begin a trial; return when."""
    probed_at(breaker, breaker.admit_at(100.0))
    now = breaker.admit_at(104.0)
    assert breaker.reserve(now)
    return now


def test_a_probe_that_does_not_fail_puts_the_lane_on_trial_where_everything_passes() -> None:
    """An outage turns away within a moment, an answer takes seconds: what is out for long is being worked on."""
    breaker = opened_at(100.0)
    now = on_trial_at(breaker)
    assert now <= 100.0 + PROBE_S + 2 * 0.1 + 0.5 + 1.0
    assert breaker.on_trial
    assert breaker.is_open, "until something is answered"
    for _ in range(100):
        assert breaker.admit_at(now) == now
        assert not breaker.reserve(now)
        breaker.sent(now)
    assert not breaker.answered(now, now), "the lane was held no longer"
    assert not breaker.is_open


def test_an_endpoint_that_swallows_what_is_sent_on_trial_gets_no_more_than_a_hundred_and_a_probe() -> None:
    breaker = opened_at(100.0)
    probed_at(breaker, breaker.admit_at(100.0))
    now = breaker.admit_at(104.0)
    starts = []
    while now < 400.0:
        breaker.reserve(now)
        breaker.sent(now)
        starts.append(now)
        now = max(now + 0.01, breaker.admit_at(now + 0.01))
    assert starts[99] < 110.0, "a hundred at once"
    assert len(starts) <= 100 + 300 / (0.9 * PROBE_S)
    assert min(later - sooner for sooner, later in itertools.pairwise(starts[100:])) >= 0.9 * PROBE_S
    assert not breaker.answered(now, starts[-1])
    assert not breaker.is_open


def test_a_failure_on_trial_holds_the_lane_again() -> None:
    breaker = opened_at(100.0)
    now = on_trial_at(breaker)
    breaker.sent(now)
    assert breaker.failed(now + 0.2, now, 1, DOWN)
    assert not breaker.on_trial
    assert 0.9 * PROBE_S <= breaker.admit_at(now + 0.2) - (now + 0.2) <= PROBE_S


def test_a_failure_of_what_was_sent_before_the_outage_does_not_end_a_trial() -> None:
    breaker = opened_at(100.0)
    now = on_trial_at(breaker)
    assert breaker.failed(now + 0.2, 99.0, 1, DOWN)
    assert breaker.on_trial


# A machine that slept.


def test_what_was_under_way_while_the_machine_slept_is_forgiven() -> None:
    breaker = breaker_of()
    breaker.failed(99.0, 98.0, 0, DOWN)
    breaker.forgive(100.0)
    for n in range(50):
        assert breaker.failed(100.5, 90.0, n, ErrorClass.NETWORK)
    assert not breaker.is_open
    assert not breaker.failed(101.0, 100.5, 51, ErrorClass.NETWORK)


# An outage from its beginning to its end, as the server makes it.


def outage(breaker: Breaker, *, fails_s: float, answers_s: float, length_s: float = 120.0) -> tuple[int, float, bool]:
    """Send fifty a second to a server that is down for so long from 10 s on.

    Return the calls wasted, how long after the end of the outage the lane flowed, and whether each failure that came
    after it was noticed was excused.
    """
    down, up = 10.0, 10.0 + length_s
    wasted, flowing_at, excused = 0, math.inf, True
    coming: list[tuple[float, int, float, bool]] = []
    now, sent_last, number, seq = 0.0, 0.0, itertools.count(), itertools.count()
    while now < up + 60.0:
        start_at = max(now, sent_last + 0.02, breaker.admit_at(now))
        if coming and coming[0][0] <= start_at:
            now, _, sent_at, is_failure = heapq.heappop(coming)
            if is_failure:
                was_open = breaker.is_open
                excused &= breaker.failed(now, sent_at, next(seq), DOWN) or not was_open
            else:
                breaker.answered(now, sent_at)
        else:
            now = start_at
            if breaker.admit_at(now) > now:
                continue
            breaker.reserve(now)
            breaker.sent(now)
            sent_last = now
            fails = down <= now < up
            wasted += fails
            heapq.heappush(coming, (now + (fails_s if fails else answers_s), next(number), now, fails))
        if now >= up and (not breaker.is_open or breaker.on_trial):
            flowing_at = min(flowing_at, now - up)
    return wasted, flowing_at, excused


@pytest.mark.parametrize("answers_s", [0.5, 5.0, 60.0])
@pytest.mark.parametrize("fails_s", [0.02, 0.2])
def test_an_outage_of_two_minutes_costs_less_than_a_hundred_calls_and_ends_within_seconds(
    fails_s: float, answers_s: float
) -> None:
    """Fifty calls a second; the failures take their time, so some are sent before the first comes back."""
    wasted, flowing_after_s, excused = outage(breaker_of(), fails_s=fails_s, answers_s=answers_s)
    assert wasted <= 100
    assert flowing_after_s <= PROBE_S + 1.5
    assert excused


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 8.0), st.floats(0.01, 80.0), st.floats(5.0, 400.0))
def test_every_outage_ends_and_blames_nobody_once_it_is_noticed(
    seed: int, fails_s: float, answers_s: float, length_s: float
) -> None:
    wasted, flowing_after_s, excused = outage(breaker_of(seed), fails_s=fails_s, answers_s=answers_s, length_s=length_s)
    assert flowing_after_s <= 3 * fails_s + 2 * PROBE_S + 1.0
    assert excused
    # What is on its way when it is noticed, probes, and what a trial lets out before its first failure is back.
    assert wasted <= 50 * (fails_s + 1.0) * 4 + length_s / (0.9 * PROBE_S) + 10


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "answered", "failed", "forgive"]),
            st.floats(0.0, 30.0),
            st.integers(0, 20),
            st.integers(0, 5),
        ),
        max_size=120,
    )
)
def test_there_is_always_a_next_start_and_it_is_near(steps: list[tuple[str, float, int, int]]) -> None:
    """Never longer than a failure took twice over, half a second, and the time between probes."""
    breaker, now, out, slowest = breaker_of(), 0.0, [0.0], 0.0
    for what, wait_s, which, seq in steps:
        now += wait_s
        sent_at = out[which % len(out)]
        match what:
            case "send":
                if breaker.admit_at(now) <= now:
                    breaker.reserve(now)
                    breaker.sent(now)
                    out.append(now)
            case "answered":
                breaker.answered(now, sent_at)
            case "failed":
                slowest = max(slowest, now - sent_at)
                breaker.failed(now, sent_at, seq, DOWN)
            case _:
                breaker.forgive(now)
        assert breaker.admit_at(now) <= now + 2 * slowest + 0.5 + 5.0
