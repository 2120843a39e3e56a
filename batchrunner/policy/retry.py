"""Retry rules: a rule is data (`defaults.toml`), a decision is a value. The arithmetic of waiting is `backoff`'s."""

import itertools
import math
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import backoff

from batchrunner.model import Attempt, Decision, ErrorClass, Fail, Failure, Halt, Retry


class Action(StrEnum):
    """What is done about a failure."""

    RETRY = "retry"
    FAIL = "fail"
    HALT = "halt"


class Wait(StrEnum):
    """How waits grow from one failure to the next: `backoff`'s generator of that name."""

    EXPO = "expo"
    FIBO = "fibo"
    CONSTANT = "constant"


class Jitter(StrEnum):
    """How chance spreads the waits of requests that failed together."""

    FULL = "full"  #: Evenly from 0 to the wait.
    EQUAL = "equal"  #: Half of the wait, and evenly up to the whole of it.
    NONE = "none"  #: The wait itself.


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done about one class of failures."""

    action: Action
    attempts: int = 1  #: In all, the first one included; only failures of this class count.
    first_s: float = 1.0  #: The wait after the first failure, before jitter.
    cap_s: float = 60.0  #: No wait is longer, before `retry-after` has its say.
    wait: Wait = Wait.EXPO
    jitter: Jitter = Jitter.FULL
    counted: bool = True  #: False: such failures use up no attempt (a 429 is nobody's fault).
    lane_only: bool = False  #: Of a halt: only this model's requests stop.

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """Return the wait in seconds after *failures* (>= 1) failures in a row, with jitter."""
        longest = self.nominal_s(failures)
        match self.jitter:
            case Jitter.FULL:
                return rng.uniform(0.0, longest)
            case Jitter.EQUAL:
                return rng.uniform(longest / 2, longest)
            case Jitter.NONE:
                return longest

    def nominal_s(self, failures: int) -> float:
        """Return the wait before jitter; `backoff.full_jitter` is not used because its chance cannot be passed in."""
        scaled_cap = self.cap_s / self.first_s
        waits: Generator[float, Any, None]
        match self.wait:
            case Wait.EXPO:
                waits = backoff.expo(max_value=scaled_cap)
            case Wait.FIBO:
                waits = backoff.fibo(max_value=math.ceil(scaled_cap))
            case Wait.CONSTANT:
                waits = backoff.constant(1)
        next(waits)  # primes the generator: its first value is None
        # Past 64 doublings every wait is the cap, and a caller's count is no reason to loop for long.
        nth = next(itertools.islice(waits, min(failures, 64) - 1, None))
        return min(nth * self.first_s, self.cap_s)


Rules = Mapping[ErrorClass, Rule]


def decide(failure: Failure, attempt: Attempt, rules: Rules, now: float, rng: random.Random) -> Decision:
    """Say what becomes of the request whose *attempt* met *failure* at *now*."""
    rule = rules[failure.error_class]
    if rule.action is Action.FAIL:
        return Fail()
    if rule.action is Action.HALT:
        return Halt(failure.message, lane_only=rule.lane_only)
    failures = attempt.failures.get(failure.error_class, 0) + 1
    if rule.counted and failures >= rule.attempts:
        return Fail()
    wait_s = rule.wait_s(failures, rng)
    return Retry(now + max(wait_s, failure.retry_after_s or 0.0), counted=rule.counted)
