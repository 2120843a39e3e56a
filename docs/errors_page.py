"""Writes what docs/errors.md says of each class from the data that the program itself goes by.

python docs/errors_page.py     renews the page in place; `make docs` does the same

Between `<!-- generated: NAME -->` and `<!-- end -->` everything is generated; the rest of the page is written by hand.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from batchrunner.advice import ADVICE, MENDABLE, Advice
from batchrunner.api.rule import Rule as Recognition
from batchrunner.api.rules import RULES
from batchrunner.api.statuses import STATUS_CLASSES, TYPE_CLASSES
from batchrunner.cases import CASES
from batchrunner.model import ErrorClass
from batchrunner.policy.retry import Action, Rule
from batchrunner.settings import default_rules

PAGE = Path(__file__).with_name("errors.md")
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: What no table of statuses, codes and words says: how a class is met otherwise.
OTHERWISE: Mapping[str, str] = {
    "rate_limited": "status 402 with a `retry-after`: a passing budget of a gateway",
    "server": "any other status from 500 on",
    "network": "no connection, or one that breaks before the answer is whole",
    "timeout": "the call's deadline passes (`--timeout`, else from `max_tokens`)",
    "bad_response": "a status below 300 whose body is no message: a web page, `null`, a list, cut JSON, no stop reason",
    "invalid": "any other status from 400 to 499",
    "too_large": "an answer of more than 64 MB",
    "endpoint": "any status from 300 to 399: redirects are not followed",
    "truncated": "an answer with `stop_reason` `max_tokens` or `model_context_window_exceeded`",
    "refused": "an answer with `stop_reason` `refusal`",
    "empty": "an answer with `stop_reason` `end_turn` and no text",
    "paused": "an answer with `stop_reason` `pause_turn`",
    "schema": "an answer that does not fit the schema that was asked for",
    "expired": "a message batch that ended first",
    "input": "the line itself, before anything is sent (`run --skip-invalid`)",
}


def overview() -> Iterator[str]:
    """Yield the table of all classes: what is done about each."""
    rules = default_rules()
    yield "| class | what is done |"
    yield "| --- | --- |"
    for error_class in ErrorClass:
        yield f"| [`{error_class}`](#{error_class}) | {in_words(rules[error_class])} |"


def classes() -> Iterator[str]:
    """Yield a section for each class."""
    rules = default_rules()
    for number, error_class in enumerate(ErrorClass):
        if number:
            yield ""
        yield from section(error_class, rules[error_class])


def section(error_class: ErrorClass, rule: Rule) -> Iterator[str]:
    """Yield what there is to know of *error_class*."""
    advice = ADVICE[error_class]
    yield f"### {error_class}"
    yield ""
    yield f"{advice.meaning} The runner: {in_words(rule)}."
    yield ""
    yield "Recognised by:"
    yield ""
    for sign in recognised(error_class):
        yield f"- {sign}"
    yield ""
    yield "To be checked, in this order:"
    yield ""
    for number, cause in enumerate(advice.causes, 1):
        yield f"{number}. {cause}"
    yield ""
    yield f"{advice.remedy} `{command(advice, error_class)}`"
    yield from special(error_class)


def special(error_class: ErrorClass) -> Iterator[str]:
    """Yield the table of messages of *error_class* of which more is known; nothing if there are none."""
    cases = [case for case in CASES if case.error_class is error_class]
    if not cases:
        return
    yield ""
    yield "| where the message speaks of | it means | what mends it |"
    yield "| --- | --- | --- |"
    for case in cases:
        mends = f"{case.advice.remedy} `{command(case.advice, error_class, '--signature KEY')}`"
        yield f"| {case.title} | {case.advice.meaning} | {mends} |"


def command(advice: Advice, error_class: ErrorClass, which: str | None = None) -> str:
    """Return the command of *advice* as the page shows it."""
    shown = advice.command.replace("{most}", "LIMIT")
    shown = shown.format(job="JOBFILE", input="JOBFILE", which=which or f"--class {error_class}")
    return shown.removeprefix("batchrunner ")


def in_words(rule: Rule) -> str:
    """Return what a rule does."""
    if rule.action is Action.HALT:
        return "stops its lane" if rule.lane_only else "stops the run"
    if rule.action is Action.FAIL:
        return "fails the request"
    tries = f"{rule.attempts} attempts" if rule.counted else "uses up no attempt"
    return f"{tries}, waits {rule.first_s:g} to {rule.cap_s:g} s"


def recognised(error_class: ErrorClass) -> Iterator[str]:
    """Yield the signs by which *error_class* is known."""
    for rule in RULES:
        if rule.error_class is error_class:
            yield _sign(rule)
    if statuses := [status for status, name in STATUS_CLASSES.items() if name is error_class]:
        yield f"{_statuses(statuses)}, where nothing above says otherwise"
    if types := [name for name, known in TYPE_CLASSES.items() if known is error_class]:
        yield f"in an error without a status (inside a 200, or in a stream): {_listed(types)}"
    if error_class in OTHERWISE:
        yield OTHERWISE[error_class]


def _sign(rule: Recognition) -> str:
    signs = []
    if rule.status_is_enough:
        signs.append("that alone")
    if rule.codes:
        signs.append(f"`type` or `code` {_listed(sorted(rule.codes))}")
    if rule.openings:
        signs.append(f"a message that begins with {_quoted(rule.openings)}")
    if rule.phrases:
        signs.append(f"the words {_quoted(rule.phrases)}")
    if rule.sequences:
        signs.append(f"the words {', '.join(f'“{first}” ... “{second}”' for first, second in rule.sequences)}")
    where = _statuses(rule.statuses) if rule.statuses else "any status"
    whose = {True: ", in the API's own form", False: ", not in the API's own form", None: ""}[rule.is_anthropic]
    return f"{where}{whose}: {'; or '.join(signs)}"


def _statuses(statuses: Collection[int | None]) -> str:
    known = sorted(status for status in statuses if status is not None)
    words = [f"status {', '.join(map(str, known))}"] if known else []
    return " or ".join([*words, *(["no status (inside a 200, or in a stream)"] if None in statuses else [])])


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _quoted(phrases: tuple[str, ...]) -> str:
    return ", ".join(f"“{phrase}”" for phrase in phrases)


def mendable() -> Iterator[str]:
    """Yield what `retry` takes by itself."""
    yield f"By itself `retry` takes {_listed([str(name) for name in MENDABLE])}."


GENERATED: Mapping[str, Callable[[], Iterator[str]]] = {"overview": overview, "classes": classes, "mendable": mendable}


def renewed(page: str) -> str:
    """Return *page* with its generated blocks as the data have them now."""
    return _BLOCK.sub(
        lambda block: "".join([block[1], *(f"{line}\n" for line in GENERATED[block[2]]()), block[3]]), page
    )


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"renewed {PAGE}", file=sys.stderr)
