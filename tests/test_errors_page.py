"""docs/errors.md says of each class what the data say: how it is met, what it means, what mends it."""

import re
from pathlib import Path

from batchrunner.advice import ADVICE, MENDABLE
from batchrunner.errors import Exit
from batchrunner.model import ErrorClass
from batchrunner.policy.retry import Action, Rule
from batchrunner.settings import default_rules

PAGE = (Path(__file__).parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")


def table(mark: str) -> list[list[str]]:
    block = PAGE.split(f"<!-- {mark} -->\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()[2:]]


def in_words(rule: Rule) -> str:
    """Return what a rule does, as the page says it."""
    if rule.action is Action.HALT:
        return "stops its lane" if rule.lane_only else "stops the run"
    if rule.action is Action.FAIL:
        return "fails the request"
    tries = f"{rule.attempts} attempts" if rule.counted else "uses up no attempt"
    return f"{tries}, waits {rule.first_s:g} to {rule.cap_s:g} s"


def test_every_class_is_met_as_its_rule_says() -> None:
    rules = default_rules()
    shown = {name.strip("`"): (met, meaning, mends) for name, met, meaning, mends in table("classes")}
    assert list(shown) == [str(error_class) for error_class in ErrorClass]
    for error_class in ErrorClass:
        advice = ADVICE[error_class]
        command = advice.command_for("JOBFILE", "JOBFILE").removeprefix("batchrunner ")
        assert shown[error_class] == (in_words(rules[error_class]), advice.meaning, f"{advice.remedy} `{command}`")


def test_what_retry_takes_by_itself_is_listed() -> None:
    (listed,) = re.findall(r"By itself `retry` takes (.*?)\.", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == [str(error_class) for error_class in MENDABLE]


def test_every_exit_code_is_listed() -> None:
    assert {int(code) for row in table("exits") for code in re.findall(r"\d+", row[0])} == {int(code) for code in Exit}
