"""The limit on requests: the user's window and the endpoint's, both kept, whoever changes them and when."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.model import Quota
from batchrunner.policy.holdups import Reason
from batchrunner.policy.ramp import FIRST, OPENING_S, PAUSE_S
from batchrunner.policy.requests import RequestLimit
from batchrunner.policy.window import Rate

SPAN_S = 60.25


def send(limit: RequestLimit, now: float, count: int = 1) -> int:
    """Send so many at once, permitted or not; return how many of the last minute the limit knows."""
    known = 0
    for _ in range(count):
        limit.reserve()
        known = limit.stamp(now)
    return known


def offer(limit: RequestLimit, figure: int, sent_at: float, remaining: int | None = None) -> bool:
    return limit.offer(Quota(figure, remaining), sent_at + 1.0, sent_at, nth=limit.sends, own_sends=1)


def assert_pace(limit: RequestLimit, now: float, rate: float, reason: Reason) -> None:
    pace, why = limit.pace(now)
    assert pace == pytest.approx(rate)
    assert why is reason


# What the endpoint says.


def test_without_a_figure_from_anybody_everything_is_permitted() -> None:
    limit = RequestLimit(None)
    send(limit, 0.0, 10_000)
    assert limit.admit_at(0.0) == 0.0
    assert limit.pace(0.0) == (math.inf, Reason.REQUESTS)
    assert (limit.per_second, limit.per_minute) == (math.inf, None)


def test_the_endpoints_first_figure_holds_at_once_and_counts_what_was_sent_before_it() -> None:
    limit = RequestLimit(None)
    send(limit, 100.0, 50)
    assert offer(limit, 50, 100.0)
    assert limit.per_minute == 50
    assert limit.pace(101.0)[0] == pytest.approx(50 / SPAN_S)
    assert limit.admit_at(101.0) == pytest.approx(100.0 + SPAN_S)


def test_a_lower_figure_is_believed_at_once_and_a_higher_one_after_three_in_a_row() -> None:
    limit = RequestLimit(None)
    offer(limit, 1000, 1.0)
    assert offer(limit, 500, 2.0)
    assert limit.per_minute == 500
    assert [offer(limit, 1000, 3.0), offer(limit, 500, 4.0)] == [False, False]
    assert [offer(limit, 1000, 5.0), offer(limit, 1000, 6.0)] == [False, False]
    assert limit.per_minute == 500
    assert offer(limit, 1000, 7.0)
    assert limit.per_minute == 1000


def test_headers_are_taken_by_the_order_of_sending() -> None:
    """The answer to an old request tells of an old limit."""
    limit = RequestLimit(None)
    offer(limit, 500, 10.0, 400)
    assert not offer(limit, 50, 9.0, 40)
    assert limit.per_minute == 500


@pytest.mark.parametrize(("wanted", "offered", "least"), [("1000/min", 500, 500), ("100/min", 500, 100)])
def test_the_lower_of_the_users_and_the_endpoints_figure_holds(wanted: str, offered: int, least: int) -> None:
    limit = RequestLimit(Rate.parse(wanted))
    offer(limit, offered, 0.0)
    assert limit.per_minute == least
    send(limit, 10.0, least - 1)
    assert limit.admit_at(10.0) == 10.0
    send(limit, 10.0)
    assert limit.admit_at(10.0) == pytest.approx(10.0 + SPAN_S)


def test_the_users_short_period_and_the_endpoints_minute_are_both_kept() -> None:
    limit = RequestLimit(Rate.parse("10/s"))
    offer(limit, 25, 0.0)
    send(limit, 0.0, 10)
    assert limit.admit_at(0.0) == pytest.approx(1.01)
    send(limit, 2.0, 10)
    send(limit, 4.0, 5)
    assert limit.admit_at(6.0) == pytest.approx(SPAN_S), "twenty-five in the minute"


# What the user says while it works.


def test_a_change_of_the_users_rate_keeps_the_memory_of_what_was_sent() -> None:
    limit = RequestLimit(Rate.parse("600/10s"))
    send(limit, 0.0, 40)
    limit.reserve()
    limit.retune(Rate.parse("50/min"))
    send(limit, 20.0, 9)
    assert limit.admit_at(20.0) == pytest.approx(SPAN_S), "forty of the last minute, nine, and a place that is taken"
    limit.release()
    assert limit.admit_at(20.0) == 20.0


def test_a_change_from_auto_and_back_keeps_the_memory_too() -> None:
    limit = RequestLimit(None)
    send(limit, 0.0, 50)
    limit.retune(Rate.parse("50/min"))
    assert limit.admit_at(1.0) == pytest.approx(SPAN_S)
    limit.retune(None)
    assert limit.admit_at(1.0) == 1.0
    limit.retune(Rate.parse("51/min"))
    assert limit.admit_at(1.0) == 1.0
    send(limit, 1.0)
    assert limit.admit_at(1.0) == pytest.approx(SPAN_S)


def test_what_an_earlier_run_sent_counts() -> None:
    limit = RequestLimit(Rate.parse("10/min"))
    limit.seed([-50.0] * 4 + [-20.0] * 5)
    send(limit, 0.0)
    assert limit.admit_at(0.0) == pytest.approx(-50.0 + SPAN_S)
    assert limit.sends == 1, "only those of this run are its own"


def test_what_an_earlier_run_sent_counts_against_a_limit_that_only_the_endpoint_names() -> None:
    limit = RequestLimit(None)
    limit.seed([-20.0] * 9)
    send(limit, 0.0)
    offer(limit, 10, 0.0)
    assert limit.admit_at(1.0) == pytest.approx(-20.0 + SPAN_S)


# Pace.


def test_a_long_run_begins_with_a_ramp_and_a_short_or_slow_one_does_not() -> None:
    long, short, slow = RequestLimit(Rate.parse("600/min")), RequestLimit(Rate.parse("600/min")), None
    long.begin(0.0, 10_000)
    short.begin(0.0, 2000)
    slow = RequestLimit(Rate.parse("60/min"))
    slow.begin(0.0, 10_000)
    assert_pace(long, 0.0, FIRST * long.per_second, Reason.RAMP)
    assert long.pace(OPENING_S) == (long.per_second, Reason.REQUESTS)
    assert short.pace(0.0)[0] == short.per_second
    assert slow.pace(0.0)[0] == slow.per_second


def test_where_only_the_endpoint_knows_the_rate_the_ramp_begins_when_it_says_so() -> None:
    limit = RequestLimit(None)
    limit.begin(0.0, 10_000)
    offer(limit, 600, 0.0)
    assert_pace(limit, 1.0, FIRST * limit.per_second, Reason.RAMP)


def test_a_figure_that_changes_again_and_again_does_not_begin_the_ramp_anew() -> None:
    """A gateway with several keys behind it tells one limit and then another."""
    limit = RequestLimit(None)
    limit.begin(0.0, 100_000)
    for n in range(1, 200):
        offer(limit, 2000 if n % 8 < 4 else 1000, float(n))
        if n > OPENING_S + 1:
            assert limit.pace(n + 1.0)[0] >= 0.99 * 1000 / SPAN_S
    for n in range(200, 204):
        offer(limit, 4000, float(n))
    pace, reason = limit.pace(204.0)
    assert 1000 / SPAN_S <= pace < 3000 / SPAN_S, "and a higher one is grown to from where the pace was"
    assert reason is Reason.RAMP
    assert_pace(limit, 204.0 + OPENING_S, 4000 / SPAN_S, Reason.REQUESTS)


def test_after_a_long_pause_the_way_back_is_a_ramp() -> None:
    limit = RequestLimit(Rate.parse("600/min"))
    send(limit, 0.0)
    limit.look(PAUSE_S)
    assert limit.pace(PAUSE_S)[1] is Reason.REQUESTS
    limit.look(PAUSE_S + 1)
    assert_pace(limit, PAUSE_S + 1, FIRST * limit.per_second, Reason.RAMP)
    limit.look(PAUSE_S + 6)
    assert limit.pace(PAUSE_S + 6)[0] > 0.5 * limit.per_second, "looking again does not begin it anew"


def test_refusals_show_in_the_pace_and_so_do_others() -> None:
    limit = RequestLimit(Rate.parse("6000/min"))
    for n in range(300):
        send(limit, n / 100)
    limit.refused(3.0, 2.9)
    pace, reason = limit.pace(3.0)
    assert reason is Reason.LEARNED
    assert pace == pytest.approx(0.9 * 99.6, rel=0.02)
    other = RequestLimit(Rate.parse("6000/min"))
    other.offer(Quota(6000, 5900), 1.0, 0.5, nth=1, own_sends=3000)
    other.offer(Quota(6000, 59), 2.0, 1.5, nth=2, own_sends=3000)
    assert_pace(other, 2.0, 0.1 * other.per_second, Reason.OTHERS)


def test_a_burst_spends_what_is_left_and_paces_what_is_not() -> None:
    limit = RequestLimit(Rate.parse("600/min"), burst=True)
    send(limit, 0.0)
    limit.offer(Quota(600, 100), 1.0, 0.0, nth=1, own_sends=1)
    assert limit.pace(0.0)[0] == math.inf
    send(limit, 0.0, 100)
    assert limit.pace(0.0)[0] == limit.per_second
    assert limit.pace(1.0)[0] == math.inf, "nine more are refilled by then"


def test_until_somebody_says_what_is_left_a_burst_spends_one_second_of_the_rate() -> None:
    limit = RequestLimit(Rate.parse("600/min"), burst=True)
    for _ in range(9):
        assert limit.pace(0.0)[0] == math.inf
        limit.reserve()
    assert limit.pace(0.0)[0] == limit.per_second, "what is about to be sent is spent"
    limit.release()
    assert limit.pace(0.0)[0] == math.inf


def test_a_burst_after_a_pause_spends_no_more_than_was_ever_left() -> None:
    """A bucket does not grow while nobody looks."""
    limit = RequestLimit(Rate.parse("600/min"), burst=True)
    send(limit, 0.0)
    limit.offer(Quota(600, 5), 1.0, 0.0, nth=1, own_sends=1)
    at_once = 0
    while limit.pace(50.0)[0] == math.inf:
        send(limit, 50.0)
        at_once += 1
        assert at_once <= 5
    assert at_once == 5


def test_where_nobody_has_named_a_rate_a_burst_is_no_licence_after_a_refusal() -> None:
    limit = RequestLimit(None, burst=True)
    send(limit, 0.0, 30)
    limit.refused(1.0, 0.5)
    assert limit.pace(1.0)[0] < math.inf


def test_the_first_refusal_ends_the_burst() -> None:
    limit = RequestLimit(Rate.parse("600/min"), burst=True)
    send(limit, 0.0)
    limit.offer(Quota(600, 100), 1.0, 0.0, nth=1, own_sends=1)
    limit.refused(1.0, 0.0)
    limit.offer(Quota(600, 500), 2.0, 1.5, nth=2, own_sends=2)
    assert limit.pace(2.0)[0] <= limit.per_second


_FIGURES = st.integers(1, 30)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*["hold", "stamp"] * 4, "release", "wanted", "auto", "offer", "refused"]),
        st.floats(-5.0, 30.0),
        _FIGURES,
        st.sampled_from([1.0, 10.0, 60.0]),
    ),
    max_size=120,
)


class Life:
    """A limit, what was sent and what holds a place, at an instant that may go back."""

    def __init__(self, rate: Rate | None) -> None:
        self.limit, self.rate = RequestLimit(rate), rate
        self.now = self.latest = 1000.0
        self.sent: list[float] = []
        self.held = 0
        self._asked = 0.0

    def step(self, what: str, wait_s: float, figure: int, period_s: float) -> None:
        self.now += wait_s
        self.latest = max(self.latest, self.now)
        match what:
            case "hold" if self.is_permitted():
                self.limit.reserve()
                self.held += 1
            case "stamp" if self.held:
                self.held -= 1
                self.sent.append(max([self.now, *self.sent[-1:]]))
                self.limit.stamp(self.now)
            case "release" if self.held:
                self.held -= 1
                self.limit.release()
            case "refused":
                self.limit.refused(self.now, self.now - 1.0)
            case _:
                self._change(what, figure, period_s)

    def _change(self, what: str, figure: int, period_s: float) -> None:
        match what:
            case "wanted" | "auto":
                self.rate = Rate(figure, period_s) if what == "wanted" else None
                self.limit.retune(self.rate)
            case "offer":
                self._asked += 1.0
                self.limit.offer(Quota(figure, None), self.now, self._asked, nth=len(self.sent), own_sends=1)

    def is_permitted(self) -> bool:
        """Whether one more may start; what is in force must hold it then."""
        if self.limit.admit_at(self.now) > self.now:
            return False
        own = (self.rate.count, self.rate.period_s) if self.rate else (10**9, 1.0)
        for figure, period_s in (own, (self.limit.offered or 10**9, 60.0)):
            assert sum(instant > self.latest - period_s for instant in self.sent) + self.held + 1 <= figure
        return True


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.none() | st.builds(Rate, _FIGURES, st.sampled_from([1.0, 10.0, 60.0])), _STEPS)
def test_no_start_is_permitted_that_would_overfill_a_period_of_either_limit(
    rate: Rate | None, steps: list[tuple[str, float, int, float]]
) -> None:
    """Whoever changes a limit, however late a send is stamped, and though the clock goes back.

    What is sent and what holds a place, together with the new one, are never more than each limit in force permits.
    Memory of the endpoint's minute is all that outlives a shorter period, so longer ones are not asked for.
    """
    life = Life(rate)
    for step in steps:
        life.step(*step)
        assert life.limit.pace(life.now)[0] > 0
        if not life.held:
            assert life.limit.admit_at(life.now) < math.inf, "nothing holds a place, so there is an instant"
