"""Which models share a rate-limit pool. Source: the published tables of standard rate limits, November 2026."""

import re

#: Generations that share one pool; every other model has its own.
_SHARED = (
    (re.compile(r"claude-fable-5(-\d{1,2})?"), "fable-5"),
    (re.compile(r"claude-opus-4-\d{1,2}"), "opus-4"),
    (re.compile(r"claude-sonnet-4-\d{1,2}"), "sonnet-4"),
)
_DATE = re.compile(r"-20\d{6}$")


def model_class(model: str) -> str:
    """Return the pool that *model* draws on: `claude-opus-4-7` and `claude-opus-4-8` give `opus-4`."""
    name = _DATE.sub("", model)
    for pattern, shared in _SHARED:
        if pattern.fullmatch(name):
            return shared
    return name.removeprefix("claude-") or model
