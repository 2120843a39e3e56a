"""The strict window and the notation of rates."""

import math
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.policy.window import Rate, StrictWindow, guard_s

_RATES = st.builds(Rate, st.integers(1, 12), st.sampled_from([0.5, 1.0, 10.0, 60.0]))


@dataclass
class Traffic:
    """Drives a window as a lane does: asks, reserves, and later stamps each place or gives it back, in any order."""

    window: StrictWindow
    now: float = 0.0
    pending: list[float] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)

    def ask(self) -> None:
        at = self.window.admit_at(self.now)
        assert at >= self.now
        assert math.isfinite(at) or self.pending, "waits for a stamp although none is to come"
        if at == self.now:
            self.window.reserve()
            self.pending.append(self.now)

    def settle(self, which: int, *, sent: bool) -> None:
        if not self.pending:
            return
        self.pending.pop(which % len(self.pending))
        if sent:
            self.window.stamp(self.now)
            self.stamps.append(self.now)
        else:
            self.window.release()


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 15)),
        st.tuples(st.just("wait"), st.floats(0.0, 1.5)),
        st.tuples(st.just("jump"), st.just(0)),
        st.tuples(st.just("sent"), st.integers(0, 20)),
        st.tuples(st.just("released"), st.integers(0, 20)),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(_RATES, _STEPS)
def test_no_period_ever_holds_more_sends_than_the_rate_permits(rate: Rate, steps: list[tuple[str, float]]) -> None:
    """Whatever the arrivals, the delays between admission and stamp, and the places given back."""
    traffic = Traffic(StrictWindow(rate))
    for step, amount in steps:
        match step:
            case "ask":
                for _ in range(int(amount)):
                    traffic.ask()
            case "wait":
                traffic.now += amount * rate.period_s
            case "jump":
                at = traffic.window.admit_at(traffic.now)
                traffic.now = at if math.isfinite(at) else traffic.now
            case _:
                traffic.settle(int(amount), sent=step == "sent")
    stamps = traffic.stamps
    for first, last in zip(stamps, stamps[rate.count :], strict=False):
        assert last - first > rate.period_s


@settings(max_examples=100, deadline=None)
@given(_RATES, st.lists(st.floats(0.0, 3.0), max_size=30))
def test_the_next_admission_is_finite_once_every_place_is_stamped(rate: Rate, gaps: list[float]) -> None:
    traffic = Traffic(StrictWindow(rate))
    for gap in gaps:
        traffic.now += gap
        traffic.ask()
        traffic.settle(0, sent=True)
        at = traffic.window.admit_at(traffic.now)
        assert traffic.now <= at <= traffic.now + rate.span_s


@settings(max_examples=60, deadline=None)
@given(_RATES)
def test_the_whole_quota_can_be_used_at_once_and_again_one_span_later(rate: Rate) -> None:
    traffic = Traffic(StrictWindow(rate))
    for _ in range(3):
        for _ in range(rate.count + 5):
            traffic.ask()
            traffic.settle(0, sent=True)
        at = traffic.window.admit_at(traffic.now)
        assert at == pytest.approx(traffic.now + rate.span_s)
        traffic.now = at
    assert len(traffic.stamps) == 3 * rate.count


def test_a_place_without_stamp_counts_for_as_long_as_it_is_held() -> None:
    window = StrictWindow(Rate(2, 1.0))
    window.reserve()
    window.reserve()
    assert window.admit_at(1000.0) == math.inf
    window.release()
    assert window.admit_at(1000.0) == 1000.0


def test_with_one_place_held_and_one_stamped_the_stamped_one_frees_the_next() -> None:
    window = StrictWindow(Rate(2, 1.0))
    window.reserve()
    window.reserve()
    window.stamp(5.0)
    assert window.admit_at(5.5) == 5.0 + window.rate.span_s
    assert window.admit_at(7.0) == 7.0


def test_a_stamp_earlier_than_the_last_one_counts_as_the_last_one() -> None:
    """Two threads may read the clock in one order and stamp in the other."""
    window = StrictWindow(Rate(2, 1.0))
    for now in (5.0, 4.0):
        window.reserve()
        window.stamp(now)
    assert window._sent == deque([5.0, 5.0])


@pytest.mark.parametrize(("period_s", "expected"), [(60.0, 0.25), (25.0, 0.25), (10.0, 0.1), (1.0, 0.01)])
def test_the_guard_is_250_ms_or_one_percent(period_s: float, expected: float) -> None:
    assert guard_s(period_s) == expected
    assert Rate(7, period_s).per_second == pytest.approx(7 / (period_s + expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("600/10s", Rate(600, 10)),
        ("4000/min", Rate(4000, 60)),
        ("50/m", Rate(50, 60)),
        ("100000/h", Rate(100_000, 3600)),
        ("5/s", Rate(5, 1)),
        ("5/1", Rate(5, 1)),
        (" 5 / 0.5 s ", Rate(5, 0.5)),
        ("5/.5s", Rate(5, 0.5)),
        ("7/1.5min", Rate(7, 90)),
    ],
)
def test_rates_are_read(text: str, expected: Rate) -> None:
    assert Rate.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "5", "5/", "/s", "5/0s", "0/s", "-5/s", "5/-1s", "1e3/s", "5/inf", "5/nan", "5/s/s", "5.5/s", "5/1e3s",
        "5/day", "9999999999/s", "5/0.0001s", "5/.s", "5/0.000min", "5 per s", "5/745h", "5/9999999s",
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"The rate"):
        Rate.parse(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789./ smhinX-", max_size=14))
def test_any_text_is_a_usable_rate_or_a_usage_error(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except UsageError:
        return
    assert rate.count >= 1
    assert 0 < rate.period_s < math.inf
    assert Rate.parse(str(rate)) == rate


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 10**9 - 1),
    st.one_of(st.integers(0, 999_999).map(str), st.decimals(0, 999_999, places=3).map(str), st.just("")),
    st.sampled_from(["s", "min", "m", "h", ""]),
)
def test_a_rate_is_written_as_it_is_read(count: int, length: str, unit: str) -> None:
    try:
        rate = Rate.parse(f"{count}/{length}{unit}")
    except UsageError:
        return
    assert Rate.parse(str(rate)) == rate
