"""The gate: a refusal closes it for a whole lane."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.policy.gate import Gate


def test_a_gate_that_was_never_closed_is_open() -> None:
    assert Gate().open_at == -math.inf


def test_the_servers_time_counts_and_the_fallback_where_it_named_none() -> None:
    gate = Gate()
    gate.close(100.0, sent_at=99.0, retry_after_s=7.0, fallback_s=50.0)
    assert gate.open_at == 107.0
    gate.close(108.0, sent_at=107.5, retry_after_s=None, fallback_s=2.0)
    assert gate.open_at == 110.0


def test_a_retry_after_of_nothing_is_a_time_too() -> None:
    gate = Gate()
    gate.close(100.0, sent_at=99.0, retry_after_s=0.0, fallback_s=50.0)
    assert gate.open_at == 100.0


def test_refusals_of_one_burst_count_once() -> None:
    """Fifty requests in flight are refused together: that is one closing, not fifty doublings."""
    gate = Gate()
    for n in range(50):
        gate.close(100.0 + n / 1000, sent_at=99.0 + n / 1000, retry_after_s=None, fallback_s=1.0)
    assert gate.closings == 1
    assert gate.open_at == 101.0


def test_a_late_refusal_with_a_longer_time_of_its_own_holds_the_gate_longer() -> None:
    gate = Gate()
    gate.close(100.0, sent_at=99.0, retry_after_s=1.0, fallback_s=1.0)
    gate.close(100.5, sent_at=99.5, retry_after_s=30.0, fallback_s=1.0)
    assert (gate.open_at, gate.closings) == (130.5, 1)


def test_only_a_success_sent_after_the_closing_ends_the_row_of_closings() -> None:
    gate = Gate()
    gate.close(100.0, sent_at=99.0, retry_after_s=None, fallback_s=1.0)
    gate.succeeded(sent_at=99.5)
    assert gate.closings == 1
    gate.succeeded(sent_at=101.0)
    assert gate.closings == 0


_CLOSINGS = st.lists(
    st.tuples(st.floats(0, 5), st.floats(0, 20), st.none() | st.floats(0, 300), st.floats(0, 60)), max_size=30
)


@settings(max_examples=200, deadline=None)
@given(_CLOSINGS)
def test_the_gate_only_ever_moves_back_and_honours_every_time_named(
    closings: list[tuple[float, float, float | None, float]],
) -> None:
    gate, now = Gate(), 1000.0
    for gap, age, retry_after_s, fallback_s in closings:
        now += gap
        before, counted = gate.open_at, gate.closings
        gate.close(now, now - age, retry_after_s, fallback_s)
        assert gate.open_at >= before
        assert gate.open_at <= max(before, now + max(retry_after_s or 0.0, fallback_s))
        assert gate.closings in {counted, counted + 1}
        if retry_after_s is not None:
            assert gate.open_at >= now + retry_after_s
