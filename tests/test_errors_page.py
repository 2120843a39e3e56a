"""docs/errors.md is what its generator makes of the data: how a class is met, what it means, what mends it."""

import re

import pytest

import errors_page
from batchrunner.api.rules import RULES
from batchrunner.errors import Exit
from batchrunner.model import ErrorClass
from batchrunner.settings import default_rules

PAGE = errors_page.PAGE.read_text(encoding="utf-8")


def test_the_page_says_what_the_data_say() -> None:
    assert errors_page.renewed(PAGE) == PAGE, "the data have changed: renew the page with `make docs`"


def test_the_page_takes_up_all_that_is_generated() -> None:
    assert re.findall(r"<!-- generated: (\w+) -->", PAGE) == ["overview", "mendable", "classes"]
    assert {*re.findall(r"<!-- generated: (\w+) -->", PAGE)} == {*errors_page.GENERATED}


def test_what_is_written_by_hand_is_left_alone() -> None:
    page = "By hand.\n<!-- generated: mendable -->\nold\n<!-- end -->\nBy hand, too.\n"
    renewed = errors_page.renewed(page)
    assert renewed.startswith("By hand.\n<!-- generated: mendable -->\nBy itself `retry` takes `rate_limited`,")
    assert renewed.endswith(".\n<!-- end -->\nBy hand, too.\n")


@pytest.mark.parametrize("error_class", ErrorClass)
def test_every_class_has_a_section_with_the_signs_it_is_known_by(error_class: ErrorClass) -> None:
    text = PAGE.split(f"\n### {error_class}\n", 1)[1].split("\n##", 1)[0]
    assert list(errors_page.recognised(error_class)), "nothing says how it is recognised: see errors_page.OTHERWISE"
    for rule in RULES:
        if rule.error_class is error_class:
            for sign in (*rule.codes, *rule.phrases, *rule.openings, *map(str, rule.statuses - {None})):
                assert sign in text


def test_a_rule_is_said_in_words() -> None:
    rules = default_rules()
    said = {name: errors_page.in_words(rules[ErrorClass(name)]) for name in ("server", "rate_limited", "not_found")}
    assert said == {
        "server": "6 attempts, waits 1 to 60 s",
        "rate_limited": "uses up no attempt, waits 1 to 60 s",
        "not_found": "stops its lane",
    }
    fails, halts = rules[ErrorClass.INVALID], rules[ErrorClass.BILLING]
    assert (errors_page.in_words(fails), errors_page.in_words(halts)) == ("fails the request", "stops the run")


def test_every_exit_code_is_listed() -> None:
    block = PAGE.split("<!-- exits -->\n", 1)[1].split("\n\n", 1)[0]
    first = [line.split("|")[1] for line in block.splitlines()[2:]]
    assert {int(code) for cell in first for code in re.findall(r"\d+", cell)} == {int(code) for code in Exit}
