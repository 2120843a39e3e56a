"""What a response's headers say of the limits. Pure; never raises, whatever a gateway puts there."""

from collections.abc import Mapping

from batchrunner.model import LimitKind, Quota, Quotas

_PREFIX = "anthropic-ratelimit-"
_NAMES = {
    LimitKind.REQUESTS: (f"{_PREFIX}requests-limit", f"{_PREFIX}requests-remaining"),
    LimitKind.INPUT_TOKENS: (f"{_PREFIX}input-tokens-limit", f"{_PREFIX}input-tokens-remaining"),
    LimitKind.OUTPUT_TOKENS: (f"{_PREFIX}output-tokens-limit", f"{_PREFIX}output-tokens-remaining"),
}
#: No limit has more digits; a longer number is a forgery and costs time to read.
_MOST_DIGITS = 15
_WORDS = (
    (LimitKind.OUTPUT_TOKENS, ("output token", "output-token", "output_token")),
    (LimitKind.INPUT_TOKENS, ("input token", "input-token", "input_token")),
    (LimitKind.REQUESTS, ("requests per", "request rate", "requests/min", "number of request")),
)


def quotas_of(headers: Mapping[str, str]) -> Quotas | None:
    """Return the limits that *headers* (lower-case names, or ignoring case) tell, None if they tell none.

    A limit that is no whole number above zero is left out: gateways forge and blank them.
    """
    found: dict[LimitKind, Quota] = {}
    for kind, (limit_name, remaining_name) in _NAMES.items():
        if (text := headers.get(limit_name)) is not None and (limit := _number(text)):
            remaining = headers.get(remaining_name)
            found[kind] = Quota(limit, None if remaining is None else _number(remaining))
    return found or None


def limit_named(text: str, quotas: Quotas | None) -> LimitKind | None:
    """Return which limit a refusal is about: the one its lower-case *text* names, or the only one that is used up."""
    named = [kind for kind, words in _WORDS if any(word in text for word in words)]
    if len(named) == 1:
        return named[0]
    used_up = [kind for kind, quota in (quotas or {}).items() if quota.remaining == 0]
    return used_up[0] if len(used_up) == 1 else None


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS else None
