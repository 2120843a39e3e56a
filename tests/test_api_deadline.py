"""How long an attempt may take: more after each time-out of its request."""

import pytest

from batchrunner.api.deadline import LARGEST_GROWTH, SHORTEST_S, deadline_s
from batchrunner.model import ErrorClass
from builders import attempt


@pytest.mark.parametrize("timeout_s", [None, 20.0])
def test_each_time_out_makes_the_next_try_longer(timeout_s: float | None) -> None:
    first = timeout_s or SHORTEST_S
    failures = [{ErrorClass.TIMEOUT: n} for n in (0, 1, 2, 3, 4, 50)]
    found = [deadline_s(attempt(timeout_s=timeout_s, failures=failed)) for failed in failures]
    assert found == [first, 1.5 * first, 2.25 * first, 3.375 * first, LARGEST_GROWTH * first, LARGEST_GROWTH * first]


def test_other_failures_change_nothing() -> None:
    others = {error_class: 3 for error_class in ErrorClass if error_class is not ErrorClass.TIMEOUT}
    assert deadline_s(attempt(failures=others)) == SHORTEST_S


def test_a_long_answer_has_the_time_it_may_take() -> None:
    assert deadline_s(attempt(max_tokens=128_000)) == 3600
    assert deadline_s(attempt(max_tokens=128_000, failures={ErrorClass.TIMEOUT: 1})) == 5400
