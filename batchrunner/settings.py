"""The frozen settings of a run: `defaults.toml`, then what the user said. Each room gets only its own part."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.answers import ACCEPTABLE
from batchrunner.policy.retry import Action, Rule, Rules, Wait
from batchrunner.policy.sampling import Sampling
from batchrunner.policy.window import Rate

_RETRIES_DIGITS = 6
#: So many of the ids a run was told to work on are kept.
_IDS_ON_RECORD = 100


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads(resources.files("batchrunner").joinpath("defaults.toml").read_text(encoding="utf-8"))


def default_max_tokens() -> int:
    """Return the `max_tokens` of a request that names none."""
    return int(_defaults()["request"]["max_tokens"])


def default_rules() -> dict[ErrorClass, Rule]:
    """Return the rule of each error class."""
    return {ErrorClass(name): _rule(spec) for name, spec in _defaults()["rules"].items()}


def _rule(spec: Mapping[str, Any]) -> Rule:
    words = {"action": Action, "wait": Wait}
    typed: dict[str, Any] = {key: words[key](value) if key in words else value for key, value in spec.items()}
    return Rule(**typed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user permits the run to take."""

    rate: Rate | None = None  #: Per lane; None: as fast as the slots permit.
    concurrency: int = field(default_factory=lambda: int(_defaults()["limits"]["concurrency"]))


@dataclass(frozen=True, slots=True)
class Stopping:
    """How long calls in flight may take to finish once the run is asked to stop, in seconds."""

    drain_s: float = field(default_factory=lambda: float(_defaults()["run"]["drain_s"]))
    drain_sigterm_s: float = field(default_factory=lambda: float(_defaults()["run"]["drain_sigterm_s"]))


@dataclass(frozen=True, slots=True)
class RunSettings:
    """All that shapes a run and is no part of a request's identity."""

    limits: Limits = field(default_factory=Limits)
    rules: Rules = field(default_factory=default_rules)
    accept: frozenset[ErrorClass] = frozenset()
    stopping: Stopping = field(default_factory=Stopping)
    timeout_s: float | None = None  #: Total deadline of an attempt; None: from `max_tokens`.
    first: int | None = None  #: Only the first so many lines.
    sampling: Sampling = field(default_factory=Sampling)  #: Which of those, and in which order.

    def as_record(self) -> dict[str, Any]:
        """Return what the store keeps of them: plain JSON values."""
        standard = default_rules()
        return {
            "rate": str(self.limits.rate) if self.limits.rate else None,
            "concurrency": self.limits.concurrency,
            "retries": {c.value: rule.attempts - 1 for c, rule in self.rules.items() if rule != standard[c]},
            "accept": sorted(self.accept),
            "timeout_s": self.timeout_s,
            "first": self.first,
            "sample": self.sampling.sample,
            "seed": self.sampling.seed,
            "ids": list(self.sampling.ids[:_IDS_ON_RECORD]),
            "shuffle": self.sampling.shuffle,
        }


def parse_rate(rpm: int | None, rate: str | None) -> Rate | None:
    """Return what `--rpm` or `--rate` asks for, or None; raises `UsageError` if both are given."""
    if rpm is not None and rate is not None:
        raise UsageError("Give --rpm or --rate, not both: they set the same limit.")
    if rpm is not None:
        return Rate.parse(f"{rpm}/min")
    return Rate.parse(rate) if rate is not None else None


def with_retries(rules: Rules, changes: Iterable[str]) -> dict[ErrorClass, Rule]:
    """Return *rules* with `CLASS=N` (N further attempts after the first) applied; raises `UsageError`."""
    changed = dict(rules)
    for change in changes:
        name, _, count = change.partition("=")
        if name not in set(ErrorClass) or not count.isdecimal() or len(count) > _RETRIES_DIGITS:
            raise UsageError(
                f"--retries {change!r} is not CLASS=N, such as server=10. Classes: {', '.join(ErrorClass)}."
            )
        action = Action.RETRY if int(count) else Action.FAIL
        changed[ErrorClass(name)] = replace(
            rules[ErrorClass(name)], action=action, attempts=int(count) + 1, counted=True
        )
    return changed


def parse_accept(names: Iterable[str]) -> frozenset[ErrorClass]:
    """Return the classes that `--accept truncated,refused` names; raises `UsageError`."""
    wanted = [name.strip() for text in names for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in ACCEPTABLE:
            raise UsageError(f"--accept {name!r}: only {', '.join(ACCEPTABLE)} answers can be accepted.")
    return frozenset(ErrorClass(name) for name in wanted)
