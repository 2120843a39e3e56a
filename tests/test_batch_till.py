"""The money of the second route: what rows may cost, held against a cap."""

import json

import pytest

from batchrunner.batch_till import BatchTill
from batchrunner.model import Attempt, Bill
from batchrunner.prices import OwnPrices, Tariff

AT = "2026-11-25T12:00:00.000Z"
FIGURES = {"input": 1.0, "output": 5.0}


def attempt(max_tokens: int = 1000) -> Attempt:
    return Attempt(1, 1, "r1", "relay", json.dumps({"model": "relay", "max_tokens": max_tokens}), max_tokens)


def till(cap_usd: float | None = None, **figures: float) -> BatchTill:
    own = OwnPrices(models={"relay": {**FIGURES, **figures}}, name="relay")
    return BatchTill(Tariff([("relay", own)]), cap_usd=cap_usd, spent_usd=0.0, promised_usd=0.0)


@pytest.mark.parametrize(("figures", "factor"), [({}, 0.5), ({"batch": 1.0}, 1.0)], ids=["half", "no discount"])
def test_a_row_costs_at_most_what_the_endpoint_takes_for_batches(figures: dict[str, float], factor: float) -> None:
    live = till().tariff.most(attempt(), AT).possible_usd
    assert live is not None
    assert till(**figures).most_usd(attempt(), AT) == pytest.approx(live * factor)


def test_a_row_whose_cost_is_not_known_counts_as_what_it_might_have_cost() -> None:
    money = till(cap_usd=1.0)
    assert money.admits(0.6)
    money.paid(Bill(cost_usd=None), 0.6)
    assert not money.admits(0.6)
    assert "$0.60 of $1.00 (--max-cost) is spent" in money.told
    free = till(cap_usd=1.0)
    assert free.admits(0.6)
    free.paid(Bill(cost_usd=0.0), 0.6)
    assert free.admits(0.6)
