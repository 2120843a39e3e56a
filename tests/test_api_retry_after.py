"""Headers that ask for a wait: what makes sense is honoured, up to five minutes; nothing raises."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.retry_after import LONGEST_S, retry_after_s

NOW = datetime(2026, 11, 22, 14, 0, 0, tzinfo=UTC)
DATE = "Sun, 22 Nov 2026 14:00:00 GMT"

CASES: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 7 "}, 7.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after": "0.001"}, 0.001),
    ({"retry-after": "1e2"}, 100.0),
    ({"retry-after": "300"}, 300.0),
    ({"retry-after": "301"}, 300.0),
    ({"retry-after": "1e9"}, 300.0),
    ({"retry-after": "0"}, None),
    ({"retry-after": "-0"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "1e999"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "abc"}, None),
    ({"retry-after": "1_000"}, None),
    ({"retry-after": "٣"}, None),
    ({"retry-after": "9" * 5000}, None),
    ({"retry-after": "5, 7"}, 5.0),
    ({"retry-after": "soon, 7"}, 7.0),
    ({"retry-after": "Sun, 22 Nov 2026 14:00:30 GMT", "date": DATE}, 30.0),
    ({"retry-after": "Sun, 22 Nov 2026 13:59:30 GMT", "date": DATE}, None),
    ({"retry-after": "Mon, 23 Nov 2026 14:00:00 GMT", "date": DATE}, 300.0),
    ({"retry-after": "Sun, 22 Nov 2020 10:00:20 GMT", "date": "Sun, 22 Nov 2020 10:00:00 GMT"}, 20.0),
    ({"retry-after": "Sun, 22 Nov 2026 14:00:30 GMT"}, 30.0),
    ({"retry-after": "Sun, 22 Nov 2026 14:00:30 -0000", "date": DATE}, 30.0),
    ({"retry-after": "Sun, 22 Nov 99999 14:00:30 GMT", "date": DATE}, None),
    ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
    ({"retry-after": "7", "retry-after-ms": "junk"}, 7.0),
    ({"retry-after": "7", "retry-after-ms": "0"}, 7.0),
]


@pytest.mark.parametrize(("headers", "expected"), CASES)
def test_wait_in_seconds(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW) == expected


def test_a_date_needs_something_to_measure_it_against() -> None:
    assert retry_after_s({"retry-after": "Sun, 22 Nov 2026 14:00:30 GMT"}) is None


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date"]),
        st.text()
        | st.floats().map(str)
        | st.integers().map(str)
        | st.datetimes().map(lambda d: f"{d:%a, %d %b %Y %T GMT}"),
    ),
    st.none() | st.just(NOW),
)
def test_never_raises_and_stays_in_bounds(headers: dict[str, str], now: datetime | None) -> None:
    wait_s = retry_after_s(headers, now)
    assert wait_s is None or 0 < wait_s <= LONGEST_S
