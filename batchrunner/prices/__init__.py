"""What tokens cost, in USD. A price is looked up once per model and day; what an answer cost is plain arithmetic.

An unknown price is None, never zero. Nothing here calls the network: the figures come with the package `genai-prices`,
from `overrides.toml`, and for an endpoint of the user's own from the user's configuration.
"""

from batchrunner.prices.lookup import load, price_of
from batchrunner.prices.own import LIST_PRICES, PRICE_KEYS, OwnPrices
from batchrunner.prices.price import Band, Price, Rates
from batchrunner.prices.tariff import Tag, Tariff, requested_model

__all__ = [
    "LIST_PRICES",
    "PRICE_KEYS",
    "Band",
    "OwnPrices",
    "Price",
    "Rates",
    "Tag",
    "Tariff",
    "load",
    "price_of",
    "requested_model",
]
