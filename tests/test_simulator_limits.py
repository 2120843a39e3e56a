"""The limits' arithmetic; time is a number."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.limits import Limits, Refusal
from batchrunner.simulator.meters import Bucket, Meter, SlidingWindow
from batchrunner.simulator.settings import Quota, SimulatorSettings

GAPS = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=200)
EPOCH = datetime(2026, 11, 22, tzinfo=UTC)


def admitted(meter: Meter, gaps: list[float]) -> list[float]:
    """Ask for one at each instant; return the instants at which it was there."""
    now, instants = 0.0, []
    for gap in gaps:
        now += gap
        if meter.wait_s(now, 1) == 0:
            meter.take(now, 1)
            instants.append(now)
    return instants


@given(GAPS, st.integers(1, 9), st.floats(0.1, 20))
def test_a_strict_window_never_holds_more_than_the_quota(gaps: list[float], amount: int, period_s: float) -> None:
    instants = admitted(SlidingWindow(Quota(amount, period_s)), gaps)
    for first, later in zip(instants, instants[amount:], strict=False):
        assert first + period_s <= later


@given(GAPS, st.integers(1, 9), st.floats(0.1, 20))
def test_a_strict_window_refuses_only_when_it_is_full(gaps: list[float], amount: int, period_s: float) -> None:
    window, now = SlidingWindow(Quota(amount, period_s)), 0.0
    inside: list[float] = []
    for gap in gaps:
        now += gap
        inside = [leaves_at for leaves_at in inside if leaves_at > now]
        assert (window.wait_s(now, 1) == 0) == (len(inside) < amount)
        if window.wait_s(now, 1) == 0:
            window.take(now, 1)
            inside.append(now + period_s)


@given(GAPS, st.floats(0.2, 50), st.floats(0.1, 10))
def test_a_bucket_gives_no_more_than_its_depth_and_its_refill(gaps: list[float], per_s: float, depth_s: float) -> None:
    instants = admitted(Bucket(Quota(per_s, 1), depth_s), gaps)
    depth = max(1.0, per_s * depth_s)
    for start in range(len(instants)):
        span_s = instants[-1] - instants[start]
        assert len(instants) - start <= depth + span_s * per_s + 1e-6


@pytest.mark.parametrize("kind", ["bucket", "window"])
@given(gaps=GAPS, amount=st.integers(1, 9), need=st.floats(0.1, 20))
def test_after_the_wait_that_was_asked_for_it_is_there(kind: str, gaps: list[float], amount: int, need: float) -> None:
    quota = Quota(amount, 3.0)
    meter: Meter = Bucket(quota, 2.0) if kind == "bucket" else SlidingWindow(quota)
    now = 0.0
    for gap in gaps:
        now += gap
        later = now + meter.wait_s(now, need) + 1e-6
        assert meter.wait_s(later, need) == 0
        now = later
        meter.take(now, need)


def test_a_bucket_starts_full_and_refills_at_its_rate() -> None:
    bucket = Bucket(Quota(60), depth_s=10)
    for _ in range(10):
        assert bucket.wait_s(0, 1) == 0
        bucket.take(0, 1)
    assert bucket.wait_s(0, 1) == pytest.approx(1)
    assert bucket.wait_s(0.5, 1) == pytest.approx(0.5)
    assert bucket.left(3.5) == pytest.approx(3.5)
    assert bucket.full_s(3.5) == pytest.approx(6.5)
    assert bucket.left(1000) == pytest.approx(10)


def test_a_bucket_in_debt_is_paid_back_first() -> None:
    bucket = Bucket(Quota(60), depth_s=10)
    bucket.take(0, 25)
    assert bucket.left(0) == 0
    assert bucket.wait_s(0, 1) == pytest.approx(16)


def test_what_is_larger_than_the_bucket_needs_a_full_one() -> None:
    bucket = Bucket(Quota(60), depth_s=10)
    assert bucket.wait_s(0, 500) == 0
    bucket.take(0, 500)
    assert bucket.wait_s(0, 500) == pytest.approx(500)


class Asked:
    """`Limits` of which the tests of requests and input tokens ask with one `max_tokens`."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.limits = Limits(settings)
        self.headers = self.limits.headers
        self.answering = self.limits.answering

    def admit(self, model: str, input_tokens: int, now: float, max_tokens: int = 100) -> Refusal | None:
        return self.limits.admit(model, input_tokens, max_tokens, now)


def limits(**quotas: Quota | float | bool) -> Asked:
    return Asked(SimulatorSettings(**quotas))  # type: ignore[arg-type] # names are checked by the class


def test_without_quotas_everything_is_let_in_and_no_header_is_sent() -> None:
    free = limits()
    assert free.admit("claude-haiku-4-5", 10**9, 0) is None
    assert free.headers("claude-haiku-4-5", 0, EPOCH) == {}


@pytest.mark.parametrize("strict", [False, True])
def test_a_refusal_names_the_limit_and_whole_seconds(strict: bool) -> None:
    limited = limits(requests=Quota(4, 10), strict=strict, bucket_s=10.0)
    assert [limited.admit("claude-x", 1, 0) for _ in range(4)] == [None] * 4
    refusal = limited.admit("claude-x", 1, 0.2)
    assert refusal == Refusal("requests", 24, 10 if strict else 3)
    assert limited.admit("claude-x", 1, 0.2 + refusal.retry_after_s) is None


def test_a_refused_request_counts_towards_no_limit() -> None:
    limited = limits(requests=Quota(60), input_tokens=Quota(100), bucket_s=60.0)
    assert limited.admit("claude-x", 90, 0) is None
    for _ in range(50):
        refusal = limited.admit("claude-x", 90, 0)
        assert refusal is not None
        assert refusal.limit == "input-tokens"
    assert limited.headers("claude-x", 0, EPOCH)["anthropic-ratelimit-requests-remaining"] == "59"


def test_each_model_has_limits_of_its_own() -> None:
    limited = limits(requests=Quota(1))
    assert limited.admit("claude-x", 1, 0) is None
    assert limited.admit("claude-x", 1, 0) is not None
    assert limited.admit("claude-y", 1, 0) is None


def test_headers_say_the_figures_per_minute() -> None:
    limited = limits(
        requests=Quota(600, 10), input_tokens=Quota(100_000), output_tokens_limit=Quota(20_000), bucket_s=60.0
    )
    limited.admit("claude-x", 41_600, 0)
    assert limited.headers("claude-x", 0, EPOCH) == {
        "anthropic-ratelimit-requests-limit": "3600",
        "anthropic-ratelimit-requests-remaining": "3599",
        "anthropic-ratelimit-requests-reset": "2026-11-22T00:00:01Z",
        "anthropic-ratelimit-input-tokens-limit": "100000",
        "anthropic-ratelimit-input-tokens-remaining": "58000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-22T00:00:25Z",
        "anthropic-ratelimit-output-tokens-limit": "20000",
        "anthropic-ratelimit-output-tokens-remaining": "20000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-22T00:00:00Z",
        "anthropic-ratelimit-tokens-limit": "120000",
        "anthropic-ratelimit-tokens-remaining": "78000",
        "anthropic-ratelimit-tokens-reset": "2026-11-22T00:00:25Z",
    }


def test_a_use_leaves_the_window_exactly_a_period_later() -> None:
    window = SlidingWindow(Quota(2, 10))
    window.take(1, 1)
    window.take(5, 1)
    assert window.left(10.99) == 0
    assert window.wait_s(10.5, 1) == pytest.approx(0.5)
    assert window.left(11) == 1
    assert window.full_s(11) == pytest.approx(4)
    assert window.wait_s(11, 50) == pytest.approx(4)
