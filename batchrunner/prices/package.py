"""The figures of the package `genai-prices`, read as data: its own arithmetic takes 0.1 ms a call. Imported when asked.

The package can renew its figures over the network; that is never turned on here.
"""

from datetime import UTC, date, datetime, time
from typing import Any

from batchrunner.prices.price import SEARCH_USD, Band, Price, Rates

_PROVIDER = "anthropic"
_MTOK = 1_000_000
#: Our kinds of tokens and the package's names of their prices.
_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "cache_read": "cache_read_mtok",
}
_FAST = {"speed": "fast"}


def packaged(model: str, stem: str, today: date) -> Price | None:
    """Return what the package says that *model* costs *today*; *stem* is its name without a date. None: not known."""
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, info = get_snapshot().find_provider_model(model, None, _PROVIDER, None)
    except LookupError:
        return None
    if provider.id != _PROVIDER or not _is_called(info, stem):
        return None
    instant = datetime.combine(today, time(12), tzinfo=UTC)
    standard, fast = info.get_prices(instant), info.get_prices(instant, _FAST)
    starts = sorted({start for prices in (standard, fast) for start in _starts(prices)})
    by_start = {start: (_rates(standard, start), _rates(fast, start)) for start in (0, *starts)}
    rates, quick = by_start[0]
    if rates is None:
        return None
    has_fast = fast != standard
    bands = tuple(
        Band(start, dear, dearer if has_fast else None)
        for start, (dear, dearer) in by_start.items()
        if start and dear is not None
    )
    searches: Any = standard.web_searches_kcount
    return Price(
        info.id,
        rates,
        f"{today} genai-prices {genai_prices.__version__}",
        bands=bands,
        fast=quick if has_fast else None,
        search_usd=SEARCH_USD if searches is None else float(searches) / 1000,
    )


def _is_called(info: Any, stem: str) -> bool:
    """Whether *stem* is a name of the model, not merely the beginning of another's."""
    clauses = getattr(info.match, "or_", [info.match])
    names = {info.id, info.id.removesuffix("-latest"), *(getattr(clause, "equals", None) for clause in clauses)}
    return stem.lower().removesuffix("-latest") in names


def _starts(prices: Any) -> list[int]:
    found = (getattr(prices, name) for name in _KINDS.values())
    return [tier.start for price in found for tier in getattr(price, "tiers", ())]


def _rates(prices: Any, above: int) -> Rates | None:
    """Return the rates for prompts of more than *above* tokens; None if a kind of token has no price."""
    usd = {}
    for kind, name in _KINDS.items():
        if (price := getattr(prices, name)) is None:
            return None
        fitting = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= above]
        figure = fitting[-1] if fitting and above else getattr(price, "base", price)
        usd[kind] = float(figure / _MTOK)
    return Rates(**usd)
