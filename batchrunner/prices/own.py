"""Prices of an endpoint's own, from the user's configuration: a gateway charges what it likes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchrunner.prices.price import BATCH_FACTOR, Price, Rates

#: What cached tokens cost where nobody says: multiples of the rate of input.
_USUAL = {"cache_write_5m": 1.25, "cache_write_1h": 2.0, "cache_read": 0.1}
_MTOK = 1_000_000
_DATE = re.compile(r"[-@]20\d{6}$")
#: What the user may say of a model: USD per million tokens, and the factor of Message Batches.
PRICE_KEYS = frozenset({"input", "output", *_USUAL, "batch"})


@dataclass(frozen=True, slots=True)
class OwnPrices:
    """How an endpoint's prices differ from Anthropic's list."""

    multiplier: float = 1.0  #: On the list's token rates; 0: it charges nothing.
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  #: USD per million tokens, by kind.
    name: str = ""  #: The endpoint's.

    @property
    def source(self) -> str:
        """Where these prices are from, in a word or two."""
        return f"endpoint {self.name}" if self.name else "configuration"

    def of(self, model: str, priced_at: str) -> Price | None:
        """Return the price that the user gave *model* itself; None if there is none."""
        figures = self.models.get(model) or self.models.get(without_date(model))
        if figures is None:
            return None
        return Price(model, rates_of(figures), priced_at, batch=figures.get("batch", BATCH_FACTOR), geo={"us": 1.0})


def without_date(model: str) -> str:
    """Return the name of *model* without the date that may end it."""
    return _DATE.sub("", model)


def rates_of(figures: Mapping[str, float]) -> Rates:
    """Return the rates that *figures*, USD per million tokens, give; `input` and `output` must be among them."""
    usual = {kind: figures["input"] * factor for kind, factor in _USUAL.items()}
    kinds = {**usual, **{kind: usd for kind, usd in figures.items() if kind in {"input", "output", *_USUAL}}}
    return Rates(**{kind: usd / _MTOK for kind, usd in kinds.items()})


#: Anthropic's own list, as it is.
LIST_PRICES = OwnPrices()
