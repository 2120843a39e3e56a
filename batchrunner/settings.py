"""The frozen settings of a run: `defaults.toml`, then what the user said. Each room gets only its own part."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.answers import ACCEPTABLE
from batchrunner.policy.caps import Caps
from batchrunner.policy.retry import Action, Jitter, Rule, Rules, Wait
from batchrunner.policy.routing import Routing
from batchrunner.policy.sampling import Sampling
from batchrunner.policy.sharing import Sharing
from batchrunner.policy.tolerance import FailOn, HaltAt
from batchrunner.policy.window import Rate

_RETRIES_DIGITS = 6
#: So many of the ids a run was told to work on are kept.
_IDS_ON_RECORD = 100
#: What of a rule can be changed.
RULE_KEYS = ("action", "attempts", "first_s", "cap_s", "wait", "jitter")
#: Most calls in flight.
LARGEST_CONCURRENCY = 10_000
_LONGEST_WAIT_S = 300.0
_TOKENS = re.compile(r"(?P<count>\d{1,12}(?:\.\d{1,3})?)\s*(?P<unit>[kKmM]?)")
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_MOST_TOKENS = 10**12


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
    words = {"action": Action, "wait": Wait, "jitter": Jitter}
    typed: dict[str, Any] = {key: words[key](value) if key in words else value for key, value in spec.items()}
    return Rule(**typed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user permits a run to take; each lane (model class) has the rates for itself.

    What is None is the endpoint's to say: its headers name the limits, and refusals teach what they do not.
    """

    rate: Rate | None = None  #: Requests per period.
    concurrency: int | None = None  #: Calls in flight, all lanes together.
    itpm: int | None = None  #: Input tokens per minute: with what the cache writes, without what it reads.
    otpm: int | None = None  #: Output tokens per minute.
    burst: bool = False  #: Send without an even pace what the endpoint says is left, until it refuses.

    @property
    def cap(self) -> int:
        """The most calls in flight."""
        return self.concurrency or int(_defaults()["limits"]["concurrency"])

    @property
    def cautious_cap(self) -> int:
        """The most calls in flight as long as nobody has named a rate."""
        return self.concurrency or int(_defaults()["limits"]["cautious_concurrency"])

    def within(self, other: "Limits") -> "Limits":
        """Return these limits with those of *other*, where it has stricter ones."""
        return replace(
            self,
            rate=min((r for r in (self.rate, other.rate) if r), key=lambda r: r.count / r.period_s, default=None),
            concurrency=_stricter(self.concurrency, other.concurrency),
            itpm=_stricter(self.itpm, other.itpm),
            otpm=_stricter(self.otpm, other.otpm),
        )

    def as_record(self) -> dict[str, Any]:
        """Return what the store keeps of them: plain JSON values."""
        return {
            "rate": str(self.rate) if self.rate else None,
            "concurrency": self.concurrency,
            "itpm": self.itpm,
            "otpm": self.otpm,
            "burst": self.burst,
        }


def _stricter(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


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
    max_outage_s: float = field(default_factory=lambda: float(_defaults()["run"]["max_outage_s"]))
    halt: HaltAt | None = None  #: Stop at so many failures.
    fail_on: FailOn = field(default_factory=FailOn)  #: When failures make the exit code 1.
    first: int | None = None  #: Only the first so many lines.
    schema: Mapping[str, Any] | None = None  #: JSON schema that every answer must fit.
    sampling: Sampling = field(default_factory=Sampling)  #: Which of those, and in which order.
    caps: Caps = field(default_factory=Caps)  #: Money and time.
    routing: Routing = field(default_factory=Routing)  #: Live, or by batches.
    sharing: Sharing = field(default_factory=Sharing)  #: What is made of requests that have something in common.

    def as_record(self) -> dict[str, Any]:
        """Return what the store keeps of them: plain JSON values."""
        standard = default_rules()
        return {
            **self.limits.as_record(),
            "max_outage_s": self.max_outage_s,
            "retries": {c.value: rule.attempts - 1 for c, rule in self.rules.items() if rule != standard[c]},
            "rules": changes_of(self.rules),
            "accept": sorted(self.accept),
            "timeout_s": self.timeout_s,
            "halt": str(self.halt) if self.halt else None,
            "fail_on": str(self.fail_on),
            "schema": self.schema,
            "first": self.first,
            "sample": self.sampling.sample,
            "seed": self.sampling.seed,
            "ids": list(self.sampling.ids[:_IDS_ON_RECORD]),
            "shuffle": self.sampling.shuffle,
            "max_cost": self.caps.max_cost_usd,
            "max_duration": self.caps.max_duration_s,
            **self.routing.as_record(),
            "prime": self.sharing.prime,
            "dedupe": self.sharing.dedupe,
        }


def parse_rate(rpm: int | str | None, rate: str | None) -> Rate | None:
    """Return what `--rpm` or `--rate` asks for, None for `auto`; raises `UsageError` if both are given."""
    if rpm is not None and rate is not None:
        raise UsageError("Give --rpm or --rate, not both: they set the same limit.")
    if rpm is not None and rpm != "auto":
        if not str(rpm).isdecimal() or not int(rpm):
            raise UsageError(f"--rpm {rpm!r} is neither a number of requests per minute nor auto.")
        return Rate.parse(f"{rpm}/min")
    return Rate.parse(rate) if rate is not None else None


def parse_tokens(name: str, text: str | int | None) -> int | None:
    """Return the tokens per minute that `--itpm` or `--otpm` asks for: `400000`, `400k`, `2M`; None for `auto`.

    Raises `UsageError` for anything else; *name* is the option's.
    """
    if text is None or text == "auto":
        return None
    match = _TOKENS.fullmatch(str(text).strip().replace(",", "").replace("_", ""))
    tokens = round(float(match["count"]) * _UNITS[match["unit"].lower()]) if match else 0
    if not 1 <= tokens <= _MOST_TOKENS:
        raise UsageError(f"{name} {text!r} is not a number of tokens per minute, such as 400000, 400k or 2M, nor auto.")
    return tokens


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


def with_rules(rules: Rules, changes: Mapping[str, Mapping[str, Any]]) -> dict[ErrorClass, Rule]:
    """Return *rules* with what *changes* say of single classes; raises `UsageError`."""
    changed = dict(rules)
    for name, change in changes.items():
        changed[error_class_named(name)] = changed_rule(error_class_named(name), change, rules)
    return changed


def changes_of(rules: Rules) -> dict[str, dict[str, Any]]:
    """Return by class how *rules* differ from the defaults, in the form that `with_rules` takes."""
    standard = default_rules()
    return {c.value: _changes(rule, standard[c]) for c, rule in rules.items() if rule != standard[c]}


def changed_rule(error_class: ErrorClass, change: Mapping[str, Any], rules: Rules | None = None) -> Rule:
    """Return the rule of a class (of *rules*, else of the defaults) with *change* applied; raises `UsageError`.

    *change* has keys of `RULE_KEYS`. `attempts` alone decides the action too: more than one is a retry, one is none.
    """
    for key in change:
        if key not in RULE_KEYS:
            raise UsageError(f"{key!r} is no part of a rule; allowed: {', '.join(RULE_KEYS)}.")
    rule = (rules or default_rules())[error_class]
    for key, words in (("action", Action), ("wait", Wait), ("jitter", Jitter)):
        if key in change and change[key] not in list(words):
            raise UsageError(f"{key} must be one of {', '.join(words)}, not {change[key]!r}.")
    attempts = change.get("attempts", rule.attempts)
    if type(attempts) is not int or not 1 <= attempts < 10**_RETRIES_DIGITS:
        raise UsageError(f"attempts must be a whole number from 1, not {attempts!r}.")
    guess = rule.action if "attempts" not in change else Action.RETRY if attempts > 1 else Action.FAIL
    action = Action(change.get("action", guess))
    counted = rule.counted or "attempts" in change
    if action is Action.RETRY and counted and attempts < 2:
        raise UsageError(f"action retry needs attempts of 2 or more (the first included), not {attempts}.")
    wait, jitter = Wait(change.get("wait", rule.wait)), Jitter(change.get("jitter", rule.jitter))
    first_s, cap_s = _waits(rule, change)
    return replace(
        rule,
        action=action,
        attempts=attempts,
        counted=counted,
        first_s=first_s,
        cap_s=cap_s,
        wait=wait,
        jitter=jitter,
    )


def _waits(rule: Rule, change: Mapping[str, Any]) -> tuple[float, float]:
    first_s, cap_s = change.get("first_s", rule.first_s), change.get("cap_s", rule.cap_s)
    for key, value in (("first_s", first_s), ("cap_s", cap_s)):
        if type(value) not in {int, float} or not 0 < value <= _LONGEST_WAIT_S:
            raise UsageError(f"{key} must be above 0 and at most {_LONGEST_WAIT_S:.0f} seconds, not {value!r}.")
    if first_s > cap_s:
        raise UsageError(f"first_s ({first_s}) is above cap_s ({cap_s}): no wait could be that long.")
    return first_s, cap_s


def error_class_named(name: str) -> ErrorClass:
    """Return the class of that name; raises `UsageError`."""
    if name not in set(ErrorClass):
        raise UsageError(f"{name!r} is no error class. Classes: {', '.join(ErrorClass)}.")
    return ErrorClass(name)


def _changes(rule: Rule, standard: Rule) -> dict[str, Any]:
    return {key: getattr(rule, key) for key in RULE_KEYS if getattr(rule, key) != getattr(standard, key)}


def parse_accept(names: Iterable[str]) -> frozenset[ErrorClass]:
    """Return the classes that `--accept truncated,refused` names; raises `UsageError`."""
    wanted = [name.strip() for text in names for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in ACCEPTABLE:
            raise UsageError(f"--accept {name!r}: only {', '.join(ACCEPTABLE)} answers can be accepted.")
    return frozenset(ErrorClass(name) for name in wanted)
