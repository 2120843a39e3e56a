"""Tables, text and packed files as lines: where rows begin, what one bad row costs, what memory a bomb takes."""

import csv
import gzip
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import InputError, UsageError
from batchrunner.jobfile import (
    Defaults,
    Format,
    Line,
    LineError,
    RefusedError,
    Shaper,
    Template,
    open_lines,
    read_lines,
)
from batchrunner.jobfile.packed import unpacked
from batchrunner.jobfile.tables import table_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def table(text: str | bytes, fields: tuple[str, ...] = (), *, delimiter: str = ",", **limits: int) -> list[Line]:
    data = text.encode() if isinstance(text, str) else text
    return list(table_lines([data[i : i + 3] for i in range(0, len(data), 3)], delimiter, "t.csv", fields, **limits))


def values(text: str) -> list[Any]:
    return [json.loads(line.data) for line in table(text)]


def test_rows_are_objects_keyed_by_the_header_and_know_their_place() -> None:
    lines = table('id,q\na,"x\ny"\n\nb,z\n')
    assert [(line.number, line.offset, line.row, line.fault) for line in lines] == [(2, 5, 1, None), (5, 14, 2, None)]
    assert [json.loads(line.data) for line in lines] == [{"id": "a", "q": "x\ny"}, {"id": "b", "q": "z"}]


def test_an_empty_id_is_none_and_other_empty_cells_are_empty_texts() -> None:
    assert values("id,q\n,\n") == [{"id": None, "q": ""}]


def test_a_bad_row_does_not_harm_the_next() -> None:
    lines = table(b'a,b\n1\n"x"y,2\n1,\xff\n1,2,3\nok,5\n')
    assert [line.fault is None for line in lines] == [False, False, False, False, True]
    assert [line.row for line in lines] == [1, 2, 3, 4, 5]


def test_a_table_without_rows_has_none() -> None:
    assert table("") == table("a,b\n") == table("\n\n") == []


def test_a_quote_that_never_closes_is_given_up_before_it_fills_the_memory() -> None:
    with pytest.raises(InputError, match=r"row that begins on line 2 is longer than 100 bytes.*never closes"):
        table('a\n"' + "x\n" * 200, max_row_bytes=100)
    with pytest.raises(InputError, match="longer than 100 bytes"):
        table("a\n" + "x" * 200, max_row_bytes=100)


def test_cells_longer_than_the_csv_module_takes_by_itself_are_taken() -> None:
    ((line,),) = [table("a\n" + "x" * 200_000 + "\n")]
    assert len(json.loads(line.data)["a"]) == 200_000


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.sampled_from([",", "\t"]))
def test_what_pythons_csv_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    lines = table(file.getvalue(), delimiter=delimiter)
    assert [tuple(json.loads(line.data).values()) for line in lines] == rows


@given(st.binary(max_size=60))
def test_any_bytes_are_rows_faults_or_one_clear_error(data: bytes) -> None:
    try:
        lines = table(data)
    except InputError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
        return
    for line in lines:
        assert line.fault is not None or isinstance(json.loads(line.data), dict)


def test_the_row_is_named_beside_the_line() -> None:
    shaper = Shaper(Defaults("m", 5), Template("{q}"))
    with pytest.raises(LineError) as refused:
        shaper.request(table("q\n \n")[0])
    assert str(refused.value) == "line 2 (row 1): the prompt is empty"
    assert refused.value.offset is None


def test_the_identity_of_a_row_does_not_depend_on_its_place_or_its_quotes() -> None:
    shaper = Shaper(Defaults("m", 5), Template("{q}"))
    first, second = table('q\nx\n"x"\n')
    assert shaper.request(first).custom_id == shaper.request(second).custom_id


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", "jsonl"), ("a.csv", "csv"), ("A.CSV.GZ", "csv"), ("a.tsv", "tsv"), ("a.tab.gz", "tsv"),
        ("a.txt", "txt"), ("a.jsonl.gz", "jsonl"), ("a", "jsonl"), ("-", "jsonl"), ("a.gz", "jsonl"),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_format(name: str, form: str) -> None:
    assert Format.of(name) == form


def test_text_has_a_prompt_on_each_line_that_is_not_blank() -> None:
    lines = list(open_lines(io.BytesIO(b'"hi" \xc3\xa9\r\n\n \n{}\n\xff\na\0b'), Format.TXT, "a.txt", None))
    assert [json.loads(line.data) for line in lines if not line.fault] == ['"hi" é', "{}"]
    assert [(line.number, line.fault) for line in lines if line.fault] == [
        (5, "not UTF-8: byte 0xff at byte 1 of the line: save the file as UTF-8"),
        (6, "a NUL byte: the file is damaged or not text"),
    ]


# Packed files.


def test_members_of_gzip_follow_each_other_whatever_the_blocks() -> None:
    packed = gzip.compress(b'"a"\n') + gzip.compress(b"") + gzip.compress(b'"b"\n') + b"\0\0"
    for size in (1, 7, 1000):
        lines = list(read_lines(io.BytesIO(packed), block_bytes=size))
        assert [(line.number, line.data) for line in lines] == [(1, b'"a"'), (2, b'"b"')]


def test_the_fingerprint_is_that_of_the_packed_file() -> None:
    packed = gzip.compress(b'"a"\n' * 1000)
    reader = read_lines(io.BytesIO(packed))
    assert sum(1 for _ in reader) == 1000
    assert reader.fingerprint.size == reader.bytes_read == len(packed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b'"a"\n' * 99)[:-5], "ends too early"),
        (gzip.compress(b'"a"\n')[:-8] + b"damaged!", "no sound gzip file"),
        (gzip.compress(b'"a"\n') + b"more", "no sound gzip file"),
        (gzip.compress(gzip.compress(b'"a"\n')), "packed by gzip twice"),
        (gzip.compress('"a"\n'.encode("utf-16")), "UTF-16"),
    ],
    ids=["cut short", "a false sum", "something behind it", "packed twice", "UTF-16 inside"],
)
def test_damaged_and_doubly_packed_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_lines(io.BytesIO(data)))


def test_a_bomb_takes_no_memory() -> None:
    bomb = gzip.compress(b"x" * (200 * 2**20), compresslevel=1)
    tracemalloc.start()
    try:
        (line,) = read_lines(io.BytesIO(bomb), max_line_bytes=2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert line.fault is not None
    assert peak < 16 * 2**20


def test_the_first_block_of_a_packed_file_is_long_enough_to_tell_its_encoding() -> None:
    packed = gzip.compress(b"ab") + gzip.compress(b"cdef")
    assert next(unpacked(iter([packed]), "a.gz")) == b"abcdef"


# Templates that reach into a row.


@pytest.mark.parametrize(
    ("text", "row", "prompt"),
    [
        ("{a[b]}", {"a": {"b": "x"}}, "x"),
        ("{a[1][c d]}", {"a": [0, {"c d": None}]}, "null"),
        ("{a[0]}", {"a": {"0": "zero"}}, "zero"),
        ("{row[a]}", {"a": "x"}, "x"),
        ("{row[a]}", {"row": {"a": "own"}, "a": "x"}, "own"),
        ("{row}", {"row": "x"}, "x"),
        ("{row[a.b][0]}", {"a.b": [[1, "ü"]]}, '[1, "ü"]'),
    ],
)
def test_keys_in_brackets_lead_inside(text: str, row: dict[str, Any], prompt: str) -> None:
    assert Template(text).render(row) == prompt


@pytest.mark.parametrize(
    ("text", "row", "cause"),
    [
        ("{a[b]}", {"a": "x"}, "'a' is a string: the template asks for [b] in it"),
        ("{a[b][c]}", {"a": {"b": 1}}, "'a[b]' is an integer: the template asks for [c] in it"),
        ("{a[x]}", {"a": []}, "'a' is a list: the template asks for 'x', which is no place in it"),
        ("{a[-1]}", {"a": [1]}, "'a' is a list: the template asks for '-1', which is no place in it"),
        ("{a[9999999999]}", {"a": [1]}, "'a' has 1 items, counted from 0: the template asks for [9999999999]"),
        ("{row[b]}", {"a": 1}, "no 'b' in 'row' for the template; there is 'a'"),
    ],
)
def test_what_is_not_inside_is_said(text: str, row: dict[str, Any], cause: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Template(text).render(row)
    assert refused.value.cause == cause


def test_a_field_that_is_taken_in_part_comes_back_whole() -> None:
    shaper = Shaper(Defaults("m", 5), Template("{a[b]} {c} {row[d]}"))
    found = shaper.request(Line(1, 0, b'{"a": {"b": 1, "z": 2}, "c": 3, "d": 4, "e": 5}'))
    assert json.loads(found.metadata or "") == {"a": {"b": 1, "z": 2}, "e": 5}


def test_defaults_are_templates_with_a_template_and_literal_without() -> None:
    defaults = Defaults("m", 5, "in {lang}", {"stop_sequences": ["{lang}", 1], "thinking": {"type": "{{x}}"}})
    filled = Shaper(defaults, Template("{q}")).request(Line(1, 0, b'{"q": "x", "lang": "French", "id": "a"}'))
    body = json.loads(filled.params)
    assert (body["system"], body["stop_sequences"], body["thinking"]) == ("in French", ["French", 1], {"type": "{x}"})
    literal = json.loads(Shaper(defaults).request(Line(1, 0, b'"x"')).params)
    assert (literal["system"], literal["thinking"]) == ("in {lang}", {"type": "{{x}}"})


def test_a_default_that_is_no_template_names_its_option() -> None:
    with pytest.raises(UsageError, match=r"the template --set stop_sequences has a single \{"):
        Shaper(Defaults("m", 5, extra={"stop_sequences": ["{"]}), Template("{q}"))
