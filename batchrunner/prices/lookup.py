"""From a model's name to its price: the endpoint's own, else our table's, else the package's."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from batchrunner.prices.own import LIST_PRICES, OwnPrices, rates_of, without_date
from batchrunner.prices.price import Price


@dataclass(frozen=True, slots=True)
class Surcharge:
    """What inference in one place costs more."""

    factor: float  #: On every token rate.
    without: frozenset[str]  #: Models that it does not hold for.


def price_of(model: str, *, own: OwnPrices = LIST_PRICES, today: date) -> Price | None:
    """Return what *model* costs *today* at an endpoint with its *own* prices; None: not known.

    A name that is not one of the API's own, or such a name with its date, is not known: a price of a model that is
    merely called alike would be worse than none. The first call takes about 0.1 s beside a loaded SDK.
    """
    if (price := own.of(model, f"{today} {own.source}")) is not None:
        return price
    price = _listed(model, today)
    if price is None or own.multiplier == 1:
        return price
    return price.times(own.multiplier, f"{price.priced_at}, {own.source} x {own.multiplier:g}")


def load() -> None:
    """Load the figures now, so that no look-up takes its time later."""
    from batchrunner.prices.package import packaged

    packaged("claude", "claude", date.min)


def _listed(model: str, today: date) -> Price | None:
    stem = without_date(model)
    figures = _models().get(stem)
    if figures is not None:
        priced_at = f"{today} batchrunner {_table()['as_of']}"
        return Price(stem, rates_of(figures), priced_at, geo=_geography(stem))
    from batchrunner.prices.package import packaged

    price = packaged(model, stem, today)
    return None if price is None else price.with_geo(_geography(price.model))


def _geography(model: str) -> dict[str, float]:
    return {place: 1.0 if model in extra.without else extra.factor for place, extra in _surcharges().items()}


@cache
def _surcharges() -> dict[str, Surcharge]:
    found = _table()["geography"]
    return {place: Surcharge(float(spec["factor"]), frozenset(spec["without"])) for place, spec in found.items()}


def _models() -> Mapping[str, Mapping[str, float]]:
    found: Mapping[str, Mapping[str, float]] = _table()["models"]
    return found


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files("batchrunner.prices").joinpath("overrides.toml").read_text(encoding="utf-8"))
