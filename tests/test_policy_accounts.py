"""Token accounts: never more than depth and refill permit, debts waited out, nobody starved."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.policy.accounts import DEPTH_S, MINUTE_DEPTH_S, TokenAccount

PER_MINUTE = 6000.0  # 100 a second, 500 deep

_NEEDS = st.floats(0.0, 5000.0)
_PER_MINUTE = st.floats(1.0, 1e7)
#: A need, what it is settled with, and how far the clock goes before the next one; it may go back.
_TRAFFIC = st.lists(st.tuples(_NEEDS, _NEEDS, st.floats(-20.0, 60.0)), min_size=1, max_size=40)


def emptied(now: float, debt: float = 0.0) -> TokenAccount:
    account = TokenAccount(PER_MINUTE)
    account.reserve(now, account.depth + debt)
    return account


def test_an_account_begins_full_and_holds_five_seconds() -> None:
    account = TokenAccount(PER_MINUTE)
    assert account.level(0.0) == account.depth == 100 * DEPTH_S
    assert account.level(1e6) == account.depth


def test_a_debt_is_waited_out_by_the_next_one() -> None:
    account = emptied(0.0, debt=1000.0)
    assert account.level(0.0) == -1000.0
    assert account.admit_at(0.0, 50.0) == pytest.approx(10.5)
    assert account.admit_at(10.5, 50.0) == pytest.approx(10.5)


def test_what_was_reserved_too_much_comes_back_and_what_was_too_little_is_owed() -> None:
    account = TokenAccount(PER_MINUTE)
    account.reserve(0.0, 400.0)
    account.settle(0.0, 400.0, 100.0)
    assert account.level(0.0) == 400.0
    account.settle(0.0, 0.0, 1400.0)
    assert account.level(0.0) == -1000.0


def test_nothing_that_comes_back_fills_it_above_the_brim() -> None:
    account = TokenAccount(PER_MINUTE)
    account.reserve(0.0, 400.0)
    account.settle(60.0, 400.0, 0.0)
    assert account.level(60.0) == account.depth


def test_a_clock_that_goes_back_refills_nothing_twice() -> None:
    account = emptied(100.0)
    assert account.level(101.0) == pytest.approx(100.0)
    assert account.level(50.0) == pytest.approx(100.0)
    assert account.level(101.0) == pytest.approx(100.0)
    assert account.level(102.0) == pytest.approx(200.0)


@hypothesis_settings(max_examples=200, deadline=None)
@given(_PER_MINUTE, st.floats(0.0, 1e9), st.floats(0.0, 1e9))
def test_a_need_waits_at_most_for_the_debt_before_it_and_one_depth(per_minute: float, debt: float, need: float) -> None:
    """The bound: DEPTH_S plus debt / rate, however large the need is; after that it may start."""
    account = TokenAccount(per_minute)
    account.reserve(0.0, account.depth + debt)
    at = account.admit_at(0.0, need)
    assert 0.0 <= at <= (DEPTH_S + debt / account.per_s) * (1 + 1e-6)
    assert math.isfinite(at)
    assert account.admit_at(at, need) <= at * (1 + 1e-6) + 1e-6


@hypothesis_settings(max_examples=300, deadline=None)
@given(_TRAFFIC)
def test_no_span_grants_more_than_the_depth_and_what_is_refilled_in_it(
    traffic: list[tuple[float, float, float]],
) -> None:
    """Each start waits for its instant. A start goes at most its own need beyond the level, so that comes on top once."""
    account, now, clock = TokenAccount(PER_MINUTE), 0.0, 0.0
    granted: list[tuple[float, float]] = []
    for need, _, pause in traffic:
        clock += pause
        now = max(now, clock)
        account.level(clock)  # may lie behind
        while (at := account.admit_at(now, need)) > now:
            now = at
        account.reserve(now, need)
        granted.append((now, need))
    for first, (since, _) in enumerate(granted):
        total = 0.0
        for at, need in granted[first:]:
            overdraft = max(0.0, need - account.depth)
            total += need
            assert total - overdraft <= account.depth + (at - since) * account.per_s + 1e-6 * (1 + total)


@hypothesis_settings(max_examples=300, deadline=None)
@given(_TRAFFIC, st.randoms(use_true_random=False))
def test_whatever_is_settled_in_whatever_order_the_level_is_what_was_refilled_less_what_was_used(
    traffic: list[tuple[float, float, float]], chance: object
) -> None:
    """At most that: what would stand above the brim is lost."""
    account, clock, latest = emptied(0.0), 0.0, 0.0
    open_: list[tuple[float, float]] = []
    used_in_all, reserved_now = account.depth, 0.0
    for need, used, pause in traffic:
        clock += pause
        latest = max(latest, clock)
        account.reserve(clock, need)
        open_.append((need, used))
        reserved_now += need
        if len(open_) % 2:
            reserved, used_up = open_.pop(chance.randrange(len(open_)))  # type: ignore[attr-defined]
            account.settle(clock, reserved, used_up)
            reserved_now -= reserved
            used_in_all += used_up
        most = account.depth + latest * account.per_s - used_in_all - reserved_now
        assert account.level(clock) <= min(account.depth, most) + 1e-6 * (1 + abs(most))


@hypothesis_settings(max_examples=200, deadline=None)
@given(_PER_MINUTE, _PER_MINUTE, st.floats(0.0, 1e6))
def test_debts_stay_when_the_rate_or_the_depth_changes(before: float, after: float, debt: float) -> None:
    account = TokenAccount(before)
    account.reserve(0.0, account.depth + debt)
    account.retune(0.0, after)
    account.deepen(0.0, MINUTE_DEPTH_S)
    assert account.level(0.0) == pytest.approx(-debt, abs=1e-6 * (1 + before + debt))
    assert account.depth == pytest.approx(after)
    assert account.level(10.0) == pytest.approx(-debt + after / 6, rel=1e-6, abs=1e-6 * (1 + before + debt))


def test_a_lower_rate_or_depth_takes_what_stands_above_the_new_brim_and_a_higher_one_gives_nothing() -> None:
    account = TokenAccount(PER_MINUTE)
    account.retune(0.0, PER_MINUTE / 2)
    assert account.level(0.0) == account.depth == 250.0
    account.retune(0.0, PER_MINUTE)
    assert account.level(0.0) == 250.0
    account.deepen(0.0, MINUTE_DEPTH_S)
    assert (account.level(0.0), account.depth) == (250.0, PER_MINUTE)
    account.deepen(0.0, 1.0)
    assert account.level(0.0) == 100.0
