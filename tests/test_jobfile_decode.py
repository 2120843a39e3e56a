"""Strict JSON: what is refused, where, and in which words."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchrunner.errors import Exit, InputError
from batchrunner.jobfile import MAX_DEPTH, Line, LineError, Surrogates, decode_line


def decode(data: bytes, surrogates: Surrogates = "refuse") -> Any:
    return decode_line(Line(7, 1000, data), surrogates)


def refusal(data: bytes, surrogates: Surrogates = "refuse") -> LineError:
    with pytest.raises(LineError) as caught:
        decode(data, surrogates)
    return caught.value


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_line_error_is_an_input_error_that_knows_its_place() -> None:
    error = refusal(b'{"a": tru}')
    assert isinstance(error, InputError)
    assert error.exit_code is Exit.USAGE
    assert (error.line, error.offset) == (7, 1006)
    assert str(error) == f"line 7: {error.cause}"
    assert "column 7" in error.cause


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'"a"', "a"),
        (b' \t{"a": [1, 2.5, null, true]}\r ', {"a": [1, 2.5, None, True]}),
        (b'{"a":\r1}', {"a": 1}),
        ('"\u2028\u202e\U0001f600"'.encode(), "\u2028\u202e\U0001f600"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\\ud800"', r"\ud800"),
        (rb'"\\\\ud800 \u0000"', "\\\\ud800 \0"),
        (b"12345678901234567890123", 12345678901234567890123),
    ],
)
def test_strict_json_is_taken(data: bytes, value: Any) -> None:
    assert decode(data) == value


def test_bytes_that_are_not_utf8_are_named_with_their_place() -> None:
    error = refusal(b'{"prompt": "caf\xe9"}')
    assert error.cause == "not UTF-8: byte 0xe9 at byte 16 of the line: save the file as UTF-8"
    assert error.offset == 1015


def test_surrogates_encoded_as_bytes_are_not_utf8() -> None:
    assert "not UTF-8" in refusal(b'"\xed\xa0\x80"').cause


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_has_not_are_refused(constant: bytes) -> None:
    assert "is not JSON" in refusal(b'{"a": [' + constant + b"]}").cause


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
def test_a_number_that_would_become_infinite_is_refused(number: bytes) -> None:
    assert "too large" in refusal(b'{"a": ' + number + b"}").cause


def test_an_integer_of_5000_digits_is_refused() -> None:
    assert refusal(b'{"a": ' + b"9" * 5000 + b"}").cause == "an integer has too many digits"


def test_a_key_twice_is_refused_at_any_depth() -> None:
    assert refusal(b'{"a": 1, "a": 1}').cause == "the key 'a' stands twice in one object"
    assert "'x'" in refusal(b'{"a": [{"x": 1, "y": 2, "x": 3}]}').cause


def test_a_key_twice_is_seen_through_escapes_and_replacement() -> None:
    assert "stands twice" in refusal(rb'{"a": 1, "\u0061": 2}').cause
    assert "stands twice" in refusal(rb'{"\ud800": 1, "\ud801": 2}', "replace").cause


def test_a_key_twice_is_found_among_a_hundred_thousand() -> None:
    keys = ",".join(f'"{number}":0' for number in range(100_000))
    assert refusal(f'{{{keys},"99999":1}}'.encode()).cause == "the key '99999' stands twice in one object"


def test_nesting_up_to_the_limit_is_taken() -> None:
    assert decode(nested(MAX_DEPTH)) is not None
    assert decode(b'{"a":' * (MAX_DEPTH - 1) + b"[1]" + b"}" * (MAX_DEPTH - 1)) is not None


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 100_000])
def test_deeper_nesting_is_refused(levels: int) -> None:
    assert "nested" in refusal(nested(levels)).cause
    assert "nested" in refusal(b'{"a":' * levels + b"1" + b"}" * levels).cause


def test_braces_in_a_text_are_not_nesting() -> None:
    assert decode(json.dumps({"prompt": "{[" * 5000}).encode()) == {"prompt": "{[" * 5000}


def test_many_objects_side_by_side_are_not_nesting() -> None:
    assert len(decode(b"[" + b"{}," * 5000 + b"{}]")) == 5001


@pytest.mark.parametrize("lone", [rb"\ud800", rb"\uDFFF", rb"\udc00\ud800", rb"\ud800\u0041", rb"\ud800x"])
def test_half_a_character_is_refused_with_the_remedy(lone: bytes) -> None:
    error = refusal(b'{"a": "\xc3\xa9' + lone + b'"}')
    assert "--surrogates=replace" in error.cause
    assert "column 9" in error.cause
    assert error.offset == 1009


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"\ud800\ud83d\ude00\udfff"', "\ufffd\U0001f600\ufffd"),
        (rb'{"\ud800": "\\ud800"}', {"\ufffd": r"\ud800"}),
    ],
)
def test_half_characters_are_replaced_on_request(data: bytes, value: Any) -> None:
    assert decode(data, "replace") == value


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark in the middle"),
        (b'{"a": \x001}', "NUL byte (column 7)"),
        (b'"a\x00b"', "NUL byte (column 3)"),
        (b"[", "ends too early"),
        (b'{"prompt":', "ends too early"),
        (b'{"prompt": "cut o', "a string that begins at column 12 does not end"),
        (b'"a" "b"', "a line of its own"),
        (b'"a"\r"b"', "not in CR alone"),
        (b'"a\tb"', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"hello", "not JSON"),
    ],
)
def test_usual_mistakes_are_told_apart(data: bytes, cause: str) -> None:
    assert cause in refusal(data).cause


def test_messages_show_little_of_the_line_on_one_line() -> None:
    error = refusal(b"secret " * 10_000)
    assert len(str(error)) < 120
    assert "\x1b" not in refusal(b"\x1b[2J\x1b]0;x").cause
    assert "\n" not in refusal(b"a\r\x0bb").cause
    key = b"k" * 1000
    assert len(refusal(b'{"' + key + b'": 1, "' + key + b'": 2}').cause) < 120


def test_a_fault_of_the_reader_becomes_the_error_of_the_line() -> None:
    with pytest.raises(LineError, match=r"^line 3: too long$"):
        decode_line(Line(3, 0, b"", "too long"))


_TOKENS = rb"""{ } [ ] " , : "a" "b": 1 - 1e999 NaN null true \ \u \ud800 \udc00""".split()
_ODD_BYTES = [b" ", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", "\u2028".encode()]
_JSONISH = st.lists(st.sampled_from(_TOKENS + _ODD_BYTES), max_size=40).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=200), _JSONISH), st.sampled_from(["refuse", "replace"]))
@example(b"-" + b"9" * 5000, "refuse")
@example(b"[" * 100_000, "refuse")
@example(b'{"a":' * 50_000, "replace")
def test_any_bytes_give_a_value_or_a_line_error(data: bytes, surrogates: Surrogates) -> None:
    try:
        text = json.dumps(decode(data, surrogates), ensure_ascii=False, allow_nan=False)
        place = None
    except LineError as error:
        text, place = str(error), error.offset
        short = len(text) < 200
    else:
        short = True
    text.encode()
    assert short
    assert "\n" not in text
    assert place is None or 1000 <= place <= 1000 + len(data)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(_VALUES, st.booleans())
def test_every_json_value_comes_back(value: Any, ascii_only: bool) -> None:
    assert decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
