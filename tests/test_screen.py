import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.screen import cells, clip, count, duration, table, visible

ANY_TEXT = st.text(st.characters(), max_size=60)
FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unseen(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in FORBIDDEN}


@given(ANY_TEXT)
def test_nothing_that_steers_a_terminal_comes_out(text: str) -> None:
    assert not unseen(visible(text))
    assert unseen(visible(text, keep_lines=True)) <= {"\n"}


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60))
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("a\tb\rc\x7f", r"a\tb\rc\x7f"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("two\nlines", "two⏎lines"),
    ],
)
def test_tricks_are_shown_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_line_ends_stay_where_lines_are_wanted() -> None:
    assert visible("two\nlines\x1b", keep_lines=True) == "two\nlines\\x1b"


@given(ANY_TEXT, st.integers(1, 80))
def test_clipped_text_fits(text: str, width: int) -> None:
    clipped = clip(text, width)
    assert cells(clipped) <= width
    assert (clipped == text) == (cells(text) <= width or text == "…")


def test_long_text_is_cut_in_the_middle() -> None:
    assert clip("abcdefghij", 7) == "abc…hij"
    assert clip("一二三四五", 7) == "一…五"


@given(st.lists(st.lists(ANY_TEXT, max_size=4), max_size=5))
def test_a_table_has_a_line_per_row_and_no_tricks(rows: list[list[str]]) -> None:
    shown = table(rows)
    assert unseen(shown) <= {"\n"}
    assert shown.count("\n") == max(len(rows) - 1, 0)


def test_a_table_aligns_its_columns_also_beside_wide_characters() -> None:
    assert table([["一", "1", "x"], ["abc", "10", "y"]], right=frozenset({1})) == "一    1  x\nabc  10  y"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_read_well(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_counts_have_their_thousands_apart() -> None:
    assert count(1234567) == "1,234,567"
