"""The prices of one run: what each attempt may cost before it goes out, and what it did cost once it is over."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property

from batchrunner.model import Attempt, Bill, Outcome, Success, Usage
from batchrunner.policy.estimates import most_input_tokens
from batchrunner.prices.lookup import price_of
from batchrunner.prices.own import OwnPrices
from batchrunner.prices.price import Price, Rates

# Where people put it, and where our own defaults do, with nothing but simple values after it: what closes there is the
# body itself. Anything else is read as JSON.
_MODEL_FIRST = re.compile(r'\{"model":"([^"\\]+)"')
_MODEL_LAST = re.compile(r'"model":"([^"\\]+)"(?:,"[a-z_]+":(?:[a-z0-9.]+|"(?:[^"\\]|\\.)*"))*\}\Z')
_TAIL = 2048


@dataclass(frozen=True)
class Tag:
    """A price as the store keeps it, once however many attempts it was applied to."""

    model: str  #: As the answer, or else the request, names it.
    endpoint: str  #: Its name; empty: the only one of the run.
    priced_at: str  #: The day, and where the figures are from; the day alone if there are none.
    price: Price | None  #: None: not known.

    @cached_property
    def number(self) -> int:
        """What tells it from every other, in whatever store: 47 bits of a hash of all that it says."""
        said = json.dumps([self.model, self.endpoint, self.priced_at, self.figures])
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6]) >> 1

    @property
    def figures(self) -> str | None:
        """The figures as JSON text; None if there are none."""
        return None if self.price is None else json.dumps(asdict(self.price))


class Tariff:
    """Applies prices. Each is looked up once per model, endpoint and day; the rest is arithmetic."""

    def __init__(
        self,
        endpoints: Sequence[tuple[str | None, OwnPrices]],
        *,
        keep: Callable[[Tag], None] = lambda _: None,
    ) -> None:
        """*endpoints*: name and prices of each, by `Attempt.endpoint`; *keep* is told of each price before its first use."""
        self._endpoints = endpoints
        self._keep = keep
        self._tags: dict[tuple[str, int, str], Tag] = {}

    def tag(self, model: str, endpoint: int, day: str) -> Tag:
        """Return the price of *model* at an endpoint on *day* (`2026-11-25`)."""
        if (found := self._tags.get((model, endpoint, day))) is not None:
            return found
        name, own = self._endpoints[endpoint]
        price = price_of(model, own=own, today=date.fromisoformat(day))
        tag = Tag(model, name or "", price.priced_at if price is not None else day, price)
        self._keep(tag)
        self._tags[model, endpoint, day] = tag
        return tag

    def most(self, attempt: Attempt, at: str, *, batch: bool = False) -> Bill:
        """Return what *attempt*, sent at the UTC stamp *at*, costs at most: all of `max_tokens`, and a generous prompt.

        *batch*: as a row of a batch.
        """
        tag = self.tag(requested_model(attempt.params), attempt.endpoint, at[:10])
        if tag.price is None:
            return Bill(tag.number, tag.model)
        most = _most_of(attempt, tag.price)
        return Bill(tag.number, tag.model, possible_usd=most * tag.price.batch if batch else most)

    def bill(self, attempt: Attempt, outcome: Outcome, at: str) -> Bill:
        """Return what *attempt* cost, now that it is over at the UTC stamp *at*."""
        answer = outcome if isinstance(outcome, Success) else outcome.answer
        if answer is not None:
            return self._of_answer(attempt, answer, at[:10])
        if not isinstance(outcome, Success) and outcome.possibly_paid:
            return self.most(attempt, at)
        tag = self.tag(requested_model(attempt.params), attempt.endpoint, at[:10])
        return Bill(tag.number, tag.model, 0.0)

    def _of_answer(self, attempt: Attempt, answer: Success, day: str) -> Bill:
        tag = self.tag(answer.model, attempt.endpoint, day)
        if tag.price is None:  # relays have names of their own
            asked = self.tag(requested_model(attempt.params), attempt.endpoint, day)
            tag = asked if asked.price is not None else tag
        if not answer.billed:
            return Bill(tag.number, tag.model, 0.0)
        bill = bill_of(answer.usage, tag)
        if bill.cost_usd is None and tag.price is not None and tag.price.cost(answer.usage) is not None:
            return replace(bill, possible_usd=_most_of(attempt, tag.price))
        return bill


def bill_of(usage: Usage, tag: Tag) -> Bill:
    """Return what an answer of this *usage* costs by the price of *tag*."""
    price = tag.price
    if price is None or not usage.is_told or not usage.prompt_tokens:  # no prompt has no tokens
        return Bill(tag.number, tag.model)
    cost = price.cost(usage)
    if cost is None:
        return Bill(tag.number, tag.model)
    saved_cache = saved_batches = 0.0
    if usage.cache_read_tokens or usage.cache_write_tokens:
        saved_cache = (price.uncached(usage) or cost) - cost
    if usage.service_tier == "batch":
        saved_batches = (price.cost(usage, batch=False) or cost) - cost
    # What is below a picodollar comes of binary fractions: no price is that fine.
    return Bill(tag.number, tag.model, round(cost, 12), None, round(saved_cache, 12), round(saved_batches, 12))


def _most_of(attempt: Attempt, price: Price) -> float:
    return round(_most(price, attempt.params, most_input_tokens(attempt.params), attempt.max_tokens), 12)


def _most(price: Price, params: str, tokens: float, max_tokens: int) -> float:
    """Return the most that a request may cost. What its text merely mentions may make it dearer: it is an upper bound."""
    fast = '"speed"' in params and '"fast"' in params
    rates = (price.rates_for(round(tokens), fast=True) if fast else None) or price.rates_for(round(tokens))
    if rates is None:
        raise AssertionError("a price without rates")
    factor = max(price.geo.values(), default=1.0) if '"inference_geo"' in params else 1.0
    return factor * (tokens * _dearest(rates, params) + max_tokens * rates.output)


def _dearest(rates: Rates, params: str) -> float:
    if '"cache_control"' not in params:
        return rates.input
    return max(rates.input, rates.cache_write_1h if '"1h"' in params else rates.cache_write_5m)


def requested_model(params: str) -> str:
    """Return the model that the body *params* (JSON text) asks for."""
    if (found := _MODEL_FIRST.match(params)) or (found := _MODEL_LAST.search(params[-_TAIL:])):
        return found[1]
    return str(json.loads(params).get("model", ""))
