"""Which fault an arrival meets: by a marker in the prompt, else by chance."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchrunner.simulator.chance import draw
from batchrunner.simulator.faults import FAULTS

MARK = b"[[sim:"  #: A body without these bytes has no marker.
ANSWER_MARKS = ("refusal", "empty", "truncate", "pause", "unfit", "long=TOKENS", "delay=SECONDS")

_FLAGS = frozenset({"refusal", "empty", "truncate", "pause", "unfit"})
_MARKER = re.compile(r"\[\[sim:([^\]]*)\]\]")
_STEP = re.compile(r"(?P<name>[a-z0-9_]+)(?:\*(?P<times>[0-9]{1,6}))?")
_LONG = re.compile(r"long=([0-9]{1,7})")
_DELAYS = re.compile(rb"\[\[sim:delay=([0-9]{1,5}(?:\.[0-9]{1,6})?)\]\]")
_DELAY = re.compile(r"delay=([0-9]{1,5}(?:\.[0-9]{1,6})?)")


class MarkerError(ValueError):
    """A marker in a prompt says something that the simulator does not know."""


@dataclass(frozen=True, slots=True)
class Step:
    """Part of a script: a fault and for how many arrivals of the body it is met."""

    name: str
    times: int | None  #: None: for ever.


@dataclass(frozen=True, slots=True)
class Marks:
    """What the markers of a prompt ask for."""

    script: tuple[Step, ...] = ()
    refusal: bool = False
    empty: bool = False
    truncate: bool = False
    pause: bool = False
    unfit: bool = False  #: Prose where a schema is asked for.
    long_tokens: int | None = None  #: Length of the answer.
    delay_s: float | None = None  #: Latency in place of the settings'.


NO_MARKS = Marks()


def parse_marks(text: str) -> Marks:
    """Return what the markers in *text* ask for; raise `MarkerError` for one that makes no sense."""
    script: list[Step] = []
    flags: set[str] = set()
    long_tokens: int | None = None
    delay_s: float | None = None
    for marker in _MARKER.findall(text):
        if marker in _FLAGS:
            flags.add(marker)
        elif found := _LONG.fullmatch(marker):
            long_tokens = int(found[1])
        elif found := _DELAY.fullmatch(marker):
            delay_s = float(found[1])
        else:
            script.extend(_steps(marker))
    return Marks(tuple(script), **dict.fromkeys(flags, True), long_tokens=long_tokens, delay_s=delay_s)


def longest_delay_s(body: bytes) -> float:
    """Return the longest latency that a marker anywhere in *body* asks for; 0 if none does."""
    if MARK not in body:
        return 0.0
    return max((float(found) for found in _DELAYS.findall(body)), default=0.0)


def _steps(marker: str) -> Iterable[Step]:
    for part in marker.split(","):
        found = _STEP.fullmatch(part.strip())
        if found is None or found["name"] not in FAULTS:
            known = ", ".join((*FAULTS, *ANSWER_MARKS))
            raise MarkerError(f"simulator marker [[sim:{marker}]]: {part.strip()!r} is unknown. Known: {known}")
        yield Step(found["name"], None if found["times"] is None else int(found["times"]))


def scripted_fault(script: Iterable[Step], attempt: int) -> str | None:
    """Return the fault that *script* has for the *attempt*-th arrival (from 1) of a body."""
    upto = 0
    for step in script:
        if step.times is None:
            return step.name
        upto += step.times
        if attempt <= upto:
            return step.name
    return None


def chosen_fault(probabilities: Mapping[str, float], seed: int, body: str, attempt: int) -> str | None:
    """Return the fault that chance has for the *attempt*-th arrival of *body* (its hash).

    Faults of the request itself are drawn once for a body, the others for every arrival; neither depends on the order.
    """
    if not probabilities:
        return None
    sticky = {name: share for name, share in probabilities.items() if FAULTS[name].sticky}
    fleeting = {name: share for name, share in probabilities.items() if not FAULTS[name].sticky}
    return _pick(sticky, draw(seed, body, "sticky")) or _pick(fleeting, draw(seed, body, attempt, "fault"))


def _pick(shares: Mapping[str, float], chance: float) -> str | None:
    upto = 0.0
    for name, share in shares.items():
        upto += share
        if chance < upto:
            return name
    return None
