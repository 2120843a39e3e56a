"""What is known of the models without asking: `models.toml`, typed."""

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

ACTIVE, DEPRECATED, RETIRED = "active", "deprecated", "retired"


@dataclass(frozen=True, slots=True)
class Model:
    """One model, under one of its names."""

    id: str
    lifecycle: str  #: active, deprecated or retired.
    context: int | None = None  #: Tokens of prompt and answer together; None: not known, as all that follows.
    max_output: int | None = None  #: Largest `max_tokens`.
    thinking: frozenset[str] | None = None  #: Types of `thinking` that it takes.
    prefill: bool | None = None  #: Whether the last message may be the assistant's.
    forced_tools: bool | None = None  #: Whether `tool_choice` may be `any` or `tool`.
    fast: bool | None = None  #: Whether `speed: fast` is offered.
    retires: date | None = None  #: End of life, past or announced.
    not_before: date | None = None  #: Earliest day for which an end may be announced.

    def is_retired(self, today: date) -> bool:
        """Whether its end of life has come."""
        return self.lifecycle == RETIRED or (self.retires is not None and self.retires <= today)


def as_of() -> date:
    """Return the day the table was written."""
    return date.fromisoformat(str(_table()["as_of"]))


@cache
def known_models() -> dict[str, Model]:
    """Return the models of the table by name: newest first, other names of a model after it, retired ones last."""
    table = _table()
    found: dict[str, Model] = {}
    for name, own in table["models"].items():
        spec = {**table["defaults"], **own}
        aliases = spec.pop("aliases", ())
        if "thinking" in spec:
            spec["thinking"] = frozenset(spec["thinking"])
        for each in (name, *aliases):
            found[each] = Model(each, **spec)
    for name, day in table["retired"].items():
        found[name] = Model(name, RETIRED, retires=day)
    return found


def nearest_model(name: str) -> str | None:
    """Return the known model whose name is most like *name*, None if none is."""
    import difflib

    return next(iter(difflib.get_close_matches(name.lower(), known_models(), n=1, cutoff=0.8)), None)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files("batchrunner").joinpath("models.toml").read_text(encoding="utf-8"))
