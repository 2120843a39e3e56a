"""Another tenant, and the climb of an acceleration limit: what is ours of the rates, and what the meters make of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.meters import Bucket, Meter, SlidingWindow
from batchrunner.simulator.settings import Quota
from batchrunner.simulator.shares import Share, Tenant

INSTANTS = st.floats(0, 300)
TENANTS = st.builds(
    lambda start, length, share: Tenant(start, start + length, share),
    st.floats(0, 200),
    st.floats(1, 200) | st.just(math.inf),
    st.floats(0, 0.95),
)
CLIMBS = st.none() | st.floats(1, 120)


def share_of(tenant: Tenant | None, climb_s: float | None, begins: float = 0.0) -> Share:
    share = Share(tenant, climb_s)
    share.traffic(begins)
    return share


def summed(share: Share, start: float, end: float, steps: int = 20_000) -> float:
    """The integral by brute force, from volumes of spans too short to hold two kinds of piece."""
    width = (end - start) / steps
    return sum(share.volume(start + i * width, start + (i + 1) * width) for i in range(steps))


@given(TENANTS | st.none(), CLIMBS, INSTANTS, INSTANTS, st.floats(0, 100))
def test_a_volume_is_the_sum_of_its_parts(
    tenant: Tenant | None, climb_s: float | None, one: float, other: float, begins: float
) -> None:
    share = share_of(tenant, climb_s, begins)
    start, middle, end = sorted((one, other, (one + other) / 3))
    assert share.volume(start, end) == pytest.approx(share.volume(start, middle) + share.volume(middle, end), abs=1e-6)
    assert 0 <= share.volume(start, end) <= end - start + 1e-9


@given(TENANTS | st.none(), CLIMBS, INSTANTS, st.floats(0, 200), st.floats(0, 100))
def test_until_is_the_instant_at_which_the_volume_is_there(
    tenant: Tenant | None, climb_s: float | None, start: float, volume: float, begins: float
) -> None:
    share = share_of(tenant, climb_s, begins)
    assert share.volume(start, share.until(start, volume)) == pytest.approx(volume, abs=1e-6)


def test_a_tenant_takes_its_share_from_then_until_then() -> None:
    share = share_of(Tenant(75, 195, 0.5), None)
    assert share.volume(0, 75) == 75
    assert share.volume(75, 195) == 60
    assert share.volume(0, 300) == 240
    assert share.until(70, 10) == 85
    assert share.until(190, 10) == 202.5


def test_a_climb_goes_from_a_tenth_to_the_whole() -> None:
    share = share_of(None, 60.0, 10.0)
    assert share.volume(0, 10) == pytest.approx(1.0)
    assert share.volume(10, 70) == pytest.approx(33.0)
    assert share.volume(70, 80) == pytest.approx(10.0)
    assert share.volume(10, 40) == pytest.approx(30 * (0.1 + 0.55) / 2)


def test_a_climb_begins_with_traffic_and_again_after_a_minutes_pause() -> None:
    share = Share(None, 10.0)
    assert share.traffic(100.0)
    assert not share.traffic(160.0)
    assert not share.climbing(160.0)
    assert share.traffic(220.1)
    assert share.climbing(220.1)
    assert share.volume(220.1, 230.1) == pytest.approx(5.5)


def test_pieces_are_right_in_every_part() -> None:
    share = share_of(Tenant(20, 50, 0.5), 60.0, 5.0)
    assert share.volume(0, 100) == pytest.approx(summed(share, 0, 100), rel=1e-6)


def flooded(meter: Meter, seconds: float, step_s: float = 0.01) -> list[float]:
    """Take one whenever one is there; return the instants."""
    taken = []
    for i in range(round(seconds / step_s)):
        now = i * step_s
        if meter.wait_s(now, 1) == 0:
            meter.take(now, 1)
            taken.append(now)
    return taken


def between(instants: list[float], start: float, end: float) -> int:
    return sum(start <= instant < end for instant in instants)


def test_a_bucket_refills_by_what_the_tenant_leaves() -> None:
    taken = flooded(Bucket(Quota(600), 1.0, share_of(Tenant(20, 40, 0.5), None)), 60)
    assert between(taken, 5, 20) == pytest.approx(150, abs=1)
    assert between(taken, 20, 40) == pytest.approx(100, abs=1)
    assert between(taken, 40, 60) == pytest.approx(200, abs=1)


def test_a_strict_window_has_less_room_the_longer_the_tenant_is_there() -> None:
    window = SlidingWindow(Quota(600, 10), share_of(Tenant(20, 40, 0.5), None))
    assert [window.left(now) for now in (20, 25, 30, 40, 45, 50)] == [600, 450, 300, 300, 450, 600]


def test_a_strict_window_and_its_tenant_never_hold_more_than_the_quota() -> None:
    window = SlidingWindow(Quota(60, 10), share_of(Tenant(20, 100, 0.5), None))
    taken = flooded(window, 80)
    assert between(taken, 40, 80) == pytest.approx(120, abs=1)
    for instant in taken:
        ours = between(taken, instant - 9.999, instant + 0.0001)
        theirs = 3 * (max(0, min(instant, 100) - max(instant - 10, 20)) if instant > 20 else 0)
        assert ours + theirs <= 60 + 1e-6


def test_a_bucket_that_climbs_begins_with_a_tenth() -> None:
    share = Share(None, 60.0)
    bucket = Bucket(Quota(6000), 1.0, share)
    assert share.traffic(0.0)
    bucket.climb(0.0)
    assert bucket.left(0.0) == pytest.approx(10)
    taken = flooded(bucket, 70)
    assert between(taken, 0, 10) == pytest.approx(10 + 100 * 1.75, abs=3)
    assert between(taken, 50, 60) == pytest.approx(100 * 9.25, abs=3)


@pytest.mark.parametrize("kind", ["bucket", "window"])
@given(
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=100),
    share=st.builds(Share, TENANTS, CLIMBS),
    amount=st.integers(1, 9),
    need=st.floats(0.1, 20),
)
def test_after_the_wait_that_was_asked_for_it_is_there(
    kind: str, gaps: list[float], share: Share, amount: int, need: float
) -> None:
    quota = Quota(amount, 3.0)
    meter: Meter = Bucket(quota, 2.0, share) if kind == "bucket" else SlidingWindow(quota, share)
    share.traffic(0.0)
    meter.climb(0.0)
    now = 0.0
    for gap in gaps:
        now += gap
        later = now + meter.wait_s(now, need) + 1e-6
        assert meter.wait_s(later, need) < 1e-6
        now = later
        meter.take(now, need)
