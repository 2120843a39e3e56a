"""Signatures: failures that differ in details only are one problem."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrunner.policy.signature import signature

_PIECES = st.sampled_from(
    ["req_011", "msg_abc", "toolu_", "https://", "http://x/1", "deadbeef", "deadbeefcafe", "-cafe", "0", "9", "1.5", "#",
     "<id>", "<url>", " ", "_", ".", ",", "é", "\n", "12345678-1234-1234-1234-123456789abc", "abcdefab-abcd-abcd-abcd-"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=4)), max_size=14).map("".join))
@example("1req_abc")
@example("5abcdefab-abcd-abcd-abcd-abcdefabcdef")
@example("x" * 118 + "https://example.com")
def test_the_signature_of_a_signature_is_itself(message: str) -> None:
    folded = signature(message)
    assert signature(folded) == folded
    assert len(folded) <= 120


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), st.lists(st.integers(0, 10**9), min_size=3, max_size=3))
def test_messages_that_differ_in_numbers_are_one(first: list[int], second: list[int]) -> None:
    text = "messages.{}: prompt is too long: {} tokens > {} maximum"
    assert signature(text.format(*first)) == signature(text.format(*second))
    assert not any(character.isdigit() for character in signature(text.format(*first)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("max_tokens: 99999 > 8192", "max_tokens: # > #"),
        ("It took 1,234.5 s", "It took # s"),
        ("see request req_011CSHoEeqs5C35K2UUqR7Fy", "see request <id>"),
        ("tool toolu_01A09q90qw90lq917835lq9 has no result", "tool <id> has no result"),
        ("trace 5f0c1d3e-8a4b-4c2d-9e6f-0a1b2c3d4e5f", "trace <id>"),
        ("trace 5f0c1d3e8a4b4c2d9e6f0a1b2c3d4e5f", "trace <id>"),
        ("see https://docs.example.com/errors?x=1 for help", "see <url> for help"),
        ("A decade of facades, defaced", "A decade of facades, defaced"),
        ("", ""),
    ],
)
def test_numbers_ids_and_addresses_are_folded(message: str, expected: str) -> None:
    assert signature(message) == expected


def test_different_problems_stay_different() -> None:
    assert signature("max_tokens: too large") != signature("temperature: too large")
