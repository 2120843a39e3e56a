"""The till of `--max-cost`: what is asked of each endpoint before anything is sent, and of each call after that."""

import json
from datetime import date
from functools import partial

import pytest

from batchrunner.errors import UsageError
from batchrunner.model import Attempt
from batchrunner.policy.purse import Purse
from batchrunner.prices import LIST_PRICES, OwnPrices, price_of
from batchrunner.prices.fare import Fares
from batchrunner.till import Till

TODAY = date(2026, 11, 25)


def attempt(model: str) -> Attempt:
    return Attempt(1, 1, "r1", "relay", json.dumps({"model": model, "max_tokens": 1000}), 1000)


def till(*endpoints: OwnPrices) -> Till:
    return Till(Purse(1.0), [Fares(partial(price_of, own=own, today=TODAY)) for own in endpoints])


def test_an_endpoint_that_only_steps_in_needs_a_price_too() -> None:
    priced = OwnPrices(models={"qwen": {"input": 1.0, "output": 2.0}}, name="first")
    with pytest.raises(UsageError, match="No price is known"):
        till(priced, LIST_PRICES).preview(attempt("qwen"))


def test_the_bound_is_that_of_the_dearest_endpoint() -> None:
    money = till(LIST_PRICES, OwnPrices(10.0, name="dear"))
    money.preview(attempt("claude-haiku-4-5"))
    assert "less than $0.0502" in money.words(5)
