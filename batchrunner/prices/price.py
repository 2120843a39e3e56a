"""A price: figures of one model on one day, and what usage costs by them. Pure float arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batchrunner.model import Usage

#: What the Message Batches API takes of every token rate. Searches are not cheaper there.
BATCH_FACTOR = 0.5
#: One web search, in USD.
SEARCH_USD = 0.01
#: Places of inference that cost nothing extra, as answers name them.
_ANYWHERE = frozenset({None, "", "global", "not_available"})


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per token, by kind."""

    input: float
    output: float
    cache_write_5m: float
    cache_write_1h: float
    cache_read: float

    def times(self, factor: float) -> "Rates":
        """Return these rates, each times *factor*."""
        return Rates(
            self.input * factor,
            self.output * factor,
            self.cache_write_5m * factor,
            self.cache_write_1h * factor,
            self.cache_read * factor,
        )

    def of(self, usage: Usage) -> float:
        """Return what the tokens of *usage* cost, in USD."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * self.cache_write_5m
            + usage.cache_write_1h_tokens * self.cache_write_1h
            + usage.cache_read_tokens * self.cache_read
        )


@dataclass(frozen=True, slots=True)
class Band:
    """Other rates for larger prompts; they hold for every token of such a request, those of the answer too."""

    above: int  #: For prompts of more tokens than this: input, cache writes and cache reads together.
    rates: Rates
    fast: Rates | None = None  #: As of `Price`.


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs."""

    model: str
    rates: Rates  #: Of prompts below every band.
    priced_at: str  #: The day it was looked up for and where it is from: `2026-11-25 genai-prices 0.2.3`.
    bands: tuple[Band, ...] = ()  #: Ascending.
    fast: Rates | None = None  #: With `speed: fast`; None: not offered, or not known.
    geo: Mapping[str, float] = field(default_factory=dict)  #: Place of inference -> factor on every token rate.
    batch: float = BATCH_FACTOR  #: Factor on every token rate for what the Message Batches API answers.
    search_usd: float = SEARCH_USD  #: One web search.

    def cost(
        self, usage: Usage, *, batch: bool | None = None, fast: bool | None = None, geo: str | None = None
    ) -> float | None:
        """Return what *usage* costs, in USD; None where this price has no figure: fast mode or a place it does not know.

        *batch*, *fast* and *geo* are as the usage itself says unless they are given.
        """
        if fast is None:
            fast = usage.speed == "fast"
        rates = self.rates_for(usage.prompt_tokens, fast=fast)
        factor = self.factor(usage.geo if geo is None else geo)
        if rates is None or factor is None:
            return None
        if usage.service_tier == "batch" if batch is None else batch:
            factor *= self.batch
        return rates.of(usage) * factor + usage.web_searches * self.search_usd

    def rates_for(self, prompt_tokens: int, *, fast: bool = False) -> Rates | None:
        """Return the rates for a prompt of so many tokens; None for fast mode where it has no price."""
        rates, quick = self.rates, self.fast
        for band in self.bands:
            if prompt_tokens > band.above:
                rates, quick = band.rates, band.fast
        return quick if fast else rates

    def uncached(self, usage: Usage) -> float | None:
        """Return what *usage* would have cost had there been no cache: all of the prompt at the rate of input."""
        return self.cost(
            replace(
                usage,
                input_tokens=usage.prompt_tokens,
                cache_write_tokens=0,
                cache_write_1h_tokens=0,
                cache_read_tokens=0,
            )
        )

    def times(self, factor: float, priced_at: str) -> "Price":
        """Return this price with every token rate times *factor*."""
        bands = tuple(
            Band(band.above, band.rates.times(factor), band.fast and band.fast.times(factor)) for band in self.bands
        )
        return replace(
            self,
            rates=self.rates.times(factor),
            bands=bands,
            fast=self.fast and self.fast.times(factor),
            priced_at=priced_at,
        )

    def with_geo(self, geo: Mapping[str, float]) -> "Price":
        """Return this price with the factors *geo* of places of inference."""
        return replace(self, geo=geo)

    def factor(self, geo: str | None) -> float | None:
        """Return the factor on every token rate for inference at *geo*; None: not known."""
        return 1.0 if geo in _ANYWHERE else self.geo.get(geo or "")
