"""What holds a lane back: waits to the second, split where they are taken down, and the limits' meters."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.model import LimitKind
from batchrunner.policy.holdups import HoldUps, Meter, Reason, Tally


def test_a_wait_counts_from_its_beginning_to_its_end() -> None:
    holdups = HoldUps()
    holdups.begin(10.0, Reason.RAMP)
    holdups.end(14.0)
    holdups.end(99.0)
    assert dict(holdups.total.waited_s) == {Reason.RAMP: 4.0}


def test_a_wait_that_begins_ends_the_one_before() -> None:
    holdups = HoldUps()
    holdups.begin(10.0, Reason.RAMP)
    holdups.begin(12.0, Reason.OUTAGE)
    holdups.end(15.0)
    assert dict(holdups.total.waited_s) == {Reason.RAMP: 2.0, Reason.OUTAGE: 3.0}


def test_a_wait_that_goes_on_is_split_where_it_is_taken_down() -> None:
    holdups = HoldUps()
    holdups.begin(10.0, Reason.REQUESTS)
    assert dict(holdups.take(13.0).waited_s) == {Reason.REQUESTS: 3.0}
    assert dict(holdups.take(14.0).waited_s) == {Reason.REQUESTS: 1.0}
    holdups.end(20.0)
    assert dict(holdups.take(20.0).waited_s) == {Reason.REQUESTS: 6.0}
    assert holdups.take(21.0).is_empty
    assert dict(holdups.total.waited_s) == {Reason.REQUESTS: 10.0}


def test_what_was_done_is_taken_down_once() -> None:
    holdups = HoldUps()
    holdups.sent(1.0)
    holdups.used(2.0, 30, 40)
    holdups.refused()
    holdups.failed()
    first = holdups.take(3.0)
    assert (first.sent, first.refused, first.failed, first.input_tokens, first.output_tokens) == (1, 1, 1, 30, 40)
    assert holdups.take(4.0) == Tally()
    assert holdups.total == first


def test_binding_is_what_was_waited_for_longest_in_the_last_minute() -> None:
    holdups = HoldUps()
    assert holdups.binding(0.0) is None
    holdups.begin(0.0, Reason.RAMP)
    holdups.begin(30.0, Reason.OUTPUT_TOKENS)
    assert holdups.binding(31.0) is Reason.RAMP
    assert holdups.binding(61.0) is Reason.OUTPUT_TOKENS, "a wait that goes on counts"
    holdups.end(61.0)
    assert holdups.binding(115.0) is Reason.OUTPUT_TOKENS
    assert holdups.binding(200.0) is None


def test_a_moment_is_not_worth_a_word() -> None:
    holdups = HoldUps()
    holdups.begin(0.0, Reason.REQUESTS)
    holdups.end(0.9)
    assert holdups.binding(1.0) is None


def test_the_meters_tell_the_last_minute_of_each_limit() -> None:
    holdups = HoldUps()
    for second in range(100):
        holdups.sent(float(second))
        holdups.used(float(second), 10, 3)
    assert [holdups.meters[kind].minute for kind in LimitKind] == [
        pytest.approx({LimitKind.REQUESTS: 60, LimitKind.INPUT_TOKENS: 600, LimitKind.OUTPUT_TOKENS: 180}[kind])
        for kind in LimitKind
    ]
    assert holdups.meters[LimitKind.INPUT_TOKENS].total == 1000


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 1000)), max_size=60), st.floats(0.0, 100.0))
def test_a_meter_holds_what_came_in_the_last_sixty_seconds_to_the_second(
    steps: list[tuple[float, int]], later: float
) -> None:
    meter, now, added = Meter(), 0.0, []
    for wait_s, amount in steps:
        now += wait_s
        meter.add(now, amount)
        added.append((int(now), amount))
        assert meter.minute == pytest.approx(sum(a for at, a in added if at > int(now) - 60))
    meter.forget(now + later)
    assert meter.minute == pytest.approx(sum(a for at, a in added if at > math.floor(now + later) - 60), abs=1e-6)
    assert meter.total == sum(amount for _, amount in added)


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["begin", "end", "take"]), st.floats(0.0, 50.0), st.sampled_from(list(Reason))))
)
def test_what_is_taken_down_adds_up_to_the_whole_and_to_the_time_waited(
    steps: list[tuple[str, float, Reason]],
) -> None:
    holdups, now, waiting, waited = HoldUps(), 0.0, False, 0.0
    taken: dict[Reason, float] = {}
    for what, wait_s, reason in [*steps, ("take", 0.0, Reason.RAMP)]:
        now += wait_s
        waited += wait_s * waiting
        match what:
            case "begin":
                holdups.begin(now, reason)
                waiting = True
            case "end":
                holdups.end(now)
                waiting = False
            case _:
                for name, seconds in holdups.take(now).waited_s.items():
                    taken[name] = taken.get(name, 0.0) + seconds
    assert sum(taken.values()) == pytest.approx(waited, abs=1e-6)
    assert taken == pytest.approx(dict(holdups.total.waited_s))
