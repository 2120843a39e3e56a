"""The header brake: another tenant's use slows us, our own never does."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.brake import HeaderBrake

LIMIT = 4000


def bucket_seen(brake: HeaderBrake, sent_at: float = 0.0) -> None:
    """Show that the server refills all the time: more is left than a window would have after so many sends of ours."""
    brake.saw(sent_at, LIMIT, 3900, own_sends=3000)
    assert brake.factor == 1.0


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(1, 10_000), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60))
def test_a_strict_window_that_we_use_up_alone_never_brakes(limit: int, fill: list[float]) -> None:
    brake = HeaderBrake()
    for n, share in enumerate([*fill, 1.0]):
        own = max(1, round(share * limit))
        brake.saw(float(n), limit, limit - own, own)
        assert brake.factor == 1.0


def test_a_window_that_others_use_too_does_not_brake_but_is_no_bucket_either() -> None:
    """A strict window shared with others has still less left; what helps there is the learned rate."""
    brake = HeaderBrake()
    for n in range(1, 2000):
        brake.saw(float(n), LIMIT, max(0, LIMIT - 2 * n), n)
        assert brake.factor == 1.0


def test_a_bucket_that_runs_low_brakes_in_proportion_and_frees_again() -> None:
    brake = HeaderBrake()
    bucket_seen(brake)
    brake.saw(1.0, LIMIT, 390, 3000)
    assert brake.factor == 1.0, "a tenth is left"
    brake.saw(2.0, LIMIT, 195, 3000)
    assert brake.factor == pytest.approx(0.5)
    brake.saw(3.0, LIMIT, 0, 3000)
    assert brake.factor == pytest.approx(0.02)
    brake.saw(4.0, LIMIT, 2000, 3000)
    assert brake.factor == 1.0


def test_the_newest_is_what_was_sent_last_and_not_what_came_last() -> None:
    """Answers come in any order; a long one tells of a moment long past."""
    brake = HeaderBrake()
    bucket_seen(brake)
    brake.saw(10.0, LIMIT, 0, 3000)
    brake.saw(9.0, LIMIT, 3000, 3000)
    assert brake.factor == pytest.approx(0.02)
    brake.saw(11.0, LIMIT, 3000, 3000)
    brake.saw(10.5, LIMIT, 0, 3000)
    assert brake.factor == 1.0


@pytest.mark.parametrize("deepest", [10, 66, 500])
def test_a_shallow_bucket_cannot_be_read_from_here(deepest: int) -> None:
    """One that holds a few seconds is often nearly empty when all is well."""
    brake = HeaderBrake()
    for n, remaining in enumerate([deepest, deepest, 0, 1, deepest, 0]):
        brake.saw(float(n), LIMIT, remaining, LIMIT)
        assert brake.factor == 1.0


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 10**15), st.integers(0, 10**15), st.integers(1, 10**6))))
def test_it_never_stops_a_lane_and_never_drives_it(headers: list[tuple[float, int, int, int]]) -> None:
    brake = HeaderBrake()
    for sent_at, limit, remaining, own in headers:
        brake.saw(sent_at, limit, remaining, own)
        assert 0.02 <= brake.factor <= 1.0


def test_a_limit_that_has_become_small_is_measured_by_itself() -> None:
    brake = HeaderBrake()
    bucket_seen(brake)
    for n in range(1, 100):
        brake.saw(float(n), 300, 290, own_sends=5)
    assert brake.factor == 1.0, "nearly all of it is left"
