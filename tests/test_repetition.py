"""Where a marker for the prompt cache would pay: noticed for what begins alike, in flat memory."""

import json
from typing import Any

import pytest

from batchrunner.preflight.findings import Finding, Findings
from batchrunner.preflight.repetition import Repetition
from batchrunner.prices import Price, Rates

PRICE = Price("claude-sonnet-5", Rates(2e-6, 1e-5, 2.5e-6, 4e-6, 2e-7), "today")
#: 6,400 characters, 2,000 tokens.
LONG = ("The rules of the house are long. " * 200)[:6400]


def params(question: str, system: object = LONG, **more: Any) -> dict[str, Any]:
    return {"system": system, "messages": [{"role": "user", "content": question}], **more}


def found(*rows: dict[str, Any], model: str = "claude-sonnet-5") -> list[Finding]:
    repetition, findings = Repetition({"claude-sonnet-5": PRICE}.get), Findings()
    for line, row in enumerate(rows, 1):
        repetition.add(model, row, json.dumps(row), line)
    repetition.report(findings)
    return list(findings)


def test_rows_that_begin_alike_are_told_with_what_a_marker_would_save() -> None:
    (finding,) = found(*(params(f"Question {i}") for i in range(100)))
    assert (finding.count, finding.lines, finding.fault.code) == (100, [1, 2, 3], "cache-marker")
    # the rest of the line that all share, "user" and "Question ", counts too
    assert "100 requests begin with the same text, about 2,004 tokens" in finding.fault.message
    # 100 times plain input becomes one write at 1.25 and 99 reads at 0.1
    assert "about 178,055 tokens' worth of input, $0.3561" in finding.fault.remedy


def test_a_text_that_is_shared_within_one_prompt_is_found_too() -> None:
    (finding,) = found(*(params(f"{LONG} {i}", system=None) for i in range(3)))
    assert "about 2,001 tokens" in finding.fault.message


@pytest.mark.parametrize(
    "rows",
    [
        [params(f"{i}", system=f"{i} {LONG}") for i in range(50)],
        [params(f"{i}", system=LONG[:3000]) for i in range(50)],
        [params(f"{i}") for i in range(2)],
        [params(f"{i}", cache_control={"type": "ephemeral"}) for i in range(50)],
        [params(f"{i}", system=[{"type": "text", "text": LONG, "cache_control": {}}]) for i in range(50)],
    ],
    ids=["all different", "too short for the model", "two rows", "marked at the top", "marked"],
)
def test_where_a_marker_would_not_help_nothing_is_said(rows: list[dict[str, Any]]) -> None:
    assert found(*rows) == []


def test_the_least_length_is_the_models() -> None:
    rows = [params(f"{i}") for i in range(10)]
    assert found(*rows, model="claude-opus-4-6") == []  # keeps nothing below 4,096
    (finding,) = found(*rows, model="claude-opus-5-5")
    assert "$" not in finding.fault.remedy  # no price is known here


def test_the_largest_saving_comes_first() -> None:
    short, long = "Short. " + LONG[:4000], "Long. " + LONG
    rows = [params(f"{i}", system=short) for i in range(5)] + [params(f"{i}", system=long) for i in range(5)]
    assert [finding.lines[0] for finding in found(*rows)] == [6, 1]


def test_a_frequent_beginning_is_found_among_thousands_of_others() -> None:
    repetition, findings = Repetition(lambda _: None), Findings()
    for line in range(1, 5001):
        system = LONG if line % 5 == 0 else f"{line} {LONG}"
        row = params("Why?", system=system)
        repetition.add("claude-sonnet-5", row, json.dumps(row), line)
    assert len(repetition._groups) <= 32
    repetition.report(findings)
    assert max(finding.count for finding in findings) > 800


def test_a_very_long_beginning_is_looked_at_in_part() -> None:
    (finding,) = found(*(params(f"{i}", system=LONG * 40) for i in range(3)))
    assert "at least about 31,250 tokens" in finding.fault.message
