import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.csv_cells import CsvWriter, escape, unescape
from batchrunner.errors import UsageError
from batchrunner.export import ExportReport, Format, Options, column_names, export, metadata_keys
from batchrunner.model import ErrorClass, Success, Usage
from batchrunner.store.found import EXPORT_COLUMNS
from batchrunner.store.read import Reader
from store_helpers import StoreMaker, answer, building, failure, request, requests

#: What a spreadsheet may take for a formula.
FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "  =1+1",
    "\xa0=1",
    "'=1",
    "''=1",
    "' =1",
    '="a","b"',
)
HARMLESS = ("", "a=1", "'quoted'", "1-2", "a,b", 'say "hi"', "two\nlines", "cr\rhere", "crlf\r\nthere", "ünïcödé", "'")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def written(store: StoreMaker, fmt: Format, *, raw: bool = False) -> tuple[str, ExportReport]:
    sink = io.BytesIO()
    with Reader(store.path) as reader:
        report = export(reader, sink, fmt, Options(raw=raw))
    return sink.getvalue().decode(), report


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_request_has_a_row_in_the_order_of_the_input(store: StoreMaker) -> None:
    store.take_in(requests(5))
    store.begin()
    store.settle("r4", answer("four"))
    store.settle("r2", failure(ErrorClass.INVALID, "max_tokens: too large"))
    store.settle("r3", failure(ErrorClass.SERVER), retry_at="12:00:00")
    store.settle("r5", answer())
    store.take_in(requests(4))
    text, report = written(store, Format.CSV)
    rows = parsed(text)
    assert tuple(rows[0]) == EXPORT_COLUMNS
    assert [(row["custom_id"], row["status"]) for row in rows] == [
        ("r1", "pending"),
        ("r2", "failed"),
        ("r3", "pending"),
        ("r4", "succeeded"),
    ]
    assert report == ExportReport(rows=4, succeeded=1, failed=1, pending=2, removed=1, escaped_cells=0)
    assert (rows[1]["error_class"], rows[1]["error_message"]) == ("invalid", "max_tokens: too large")
    assert rows[3] == {
        "custom_id": "r4",
        "status": "succeeded",
        "text": "four",
        "stop_reason": "end_turn",
        "model": "claude-haiku-4-5",
        "input_tokens": "100",
        "output_tokens": "20",
        "cache_read_tokens": "4",
        "cache_write_tokens": "3",
        "cost_usd": "",
        "attempts": "1",
        "latency_s": "2.0",
        "error_class": "",
        "error_message": "",
        "api_request_id": "req_1",
    }


def test_json_lines_have_the_same_fields_and_the_metadata_as_one_object(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"n": 1.50, "deep": {"x": [1]}}), request("b", 2)])
    store.begin()
    store.settle("a", answer("=1+1\nü"))
    text, report = written(store, Format.JSONL)
    first, second = map(json.loads, text.splitlines())
    assert tuple(first) == (*EXPORT_COLUMNS, "metadata")
    assert (first["text"], first["input_tokens"], first["metadata"]) == ("=1+1\nü", 100, {"n": 1.5, "deep": {"x": [1]}})
    assert (second["status"], second["text"], second["metadata"]) == ("pending", None, None)
    assert report.escaped_cells == 0


def test_metadata_keys_become_columns_in_the_order_of_their_appearance(store: StoreMaker) -> None:
    store.take_in(
        [
            request("a", 1),
            request("b", 2, metadata={"topic": "x", "text": "mine"}),
            request(
                "c", 3, metadata={"level": -2, "topic": None, "deep": {"k": ["ü"]}, "ok": True, "metadata.text": "!"}
            ),
        ]
    )
    text, report = written(store, Format.CSV)
    rows = [list(row.values())[len(EXPORT_COLUMNS) :] for row in parsed(text)]
    header = text.split("\n")[0].split(",")[len(EXPORT_COLUMNS) :]
    assert header == ["topic", "metadata.text", "level", "deep", "ok", "metadata.metadata.text"]
    assert rows == [
        ["", "", "", "", "", ""],
        ["x", "mine", "", "", "", ""],
        ["", "", "-2", '{"k": ["ü"]}', "true", "!"],
    ]
    assert report.escaped_cells == 0


def test_metadata_of_requests_that_left_the_input_makes_no_column(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"kept": 1}), request("b", 2, metadata={"gone": 1})])
    store.take_in([request("a", 1, metadata={"kept": 1})])
    text, _ = written(store, Format.CSV)
    assert text.split("\n")[0].endswith(",api_request_id,kept")


def test_column_names_are_unique() -> None:
    assert column_names(["text", "metadata.text", "x"]) == ["metadata.text", "metadata.metadata.text", "x"]
    assert metadata_keys(['{"b":1,"a":2}', '{"c":1,"a":2}']) == ["b", "a", "c"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_cells_that_look_like_formulas_get_a_quote_in_front(store: StoreMaker, formula: str) -> None:
    """In answers, metadata, their keys and error messages alike; what stood there comes back exactly."""
    store.take_in([request("a", 1, metadata={formula: formula}), request("b", 2)])
    store.begin()
    store.settle("a", answer(formula, model=formula, stop_reason=formula))
    store.settle("b", failure(ErrorClass.INVALID, formula))
    text, report = written(store, Format.CSV)
    header, a, b = csv.reader(io.StringIO(text, newline=""))
    assert header[-1] == a[-1] == a[2] == a[3] == a[4] == b[13] == "'" + formula
    assert unescape(a[2]) == formula
    assert report.escaped_cells == 6
    raw, report = written(store, Format.CSV, raw=True)
    assert list(csv.reader(io.StringIO(raw, newline="")))[1][2] == formula
    assert report.escaped_cells == 0


def test_ids_that_look_like_formulas_are_escaped_too(store: StoreMaker) -> None:
    store.take_in([request("-5", 1)])
    text, report = written(store, Format.CSV)
    assert text.split("\n")[1].startswith("'-5,pending")
    assert report.escaped_cells == 1


@pytest.mark.parametrize("text", HARMLESS)
def test_other_cells_stay_as_they_are(store: StoreMaker, text: str) -> None:
    store.take_in([request("a", 1)])
    store.begin()
    store.settle("a", answer(text))
    exported, report = written(store, Format.CSV)
    assert parsed(exported)[0]["text"] == text
    assert report.escaped_cells == 0


def test_numbers_are_never_escaped(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"n": -1.5, "i": -3})])
    store.begin()
    store.settle("a", Success("{}", "x", "end_turn", "m", Usage(1, 1, 0, 0)), started="11:00:05", ended="11:00:01")
    store.conn.execute("UPDATE attempts SET cost_usd = -1.5")
    text, report = written(store, Format.CSV)
    row = parsed(text)[0]
    assert (row["cost_usd"], row["latency_s"], row["n"], row["i"]) == ("-1.5", "-4.0", "-1.5", "-3")
    assert report.escaped_cells == 0


CELL = st.text(st.sampled_from(list("'=+-@\t\r\n\0＝＋－＠ \xa0a,\";")), max_size=6)


@given(CELL)
def test_unescaping_gives_back_what_was_escaped(cell: str) -> None:
    assert unescape(escape(cell)) == cell


def test_no_formula_begins_with_a_letter_or_a_digit() -> None:
    assert all(escape(c) is c for c in map(chr, range(0x10000)) if c.isalnum())


@given(st.lists(CELL, min_size=2, max_size=3), st.booleans())
def test_csv_comes_back_cell_by_cell_with_line_feeds_alone(cells: list[str], raw: bool) -> None:
    sink = io.BytesIO()
    CsvWriter(sink.write, raw=raw).row(cells)
    line = sink.getvalue().decode()
    (back,) = csv.reader(io.StringIO(line, newline=""))
    assert (back if raw else [unescape(cell) for cell in back]) == cells
    assert line.endswith("\n")
    assert "\r" not in re.sub(r'"[^"]*"', "", line), "a bare carriage return stands outside quotes"


@pytest.mark.parametrize("fmt", [Format.CSV, Format.JSONL])
def test_lone_surrogates_do_not_stop_an_export(store: StoreMaker, fmt: Format) -> None:
    store.take_in([request("a", 1)])
    store.conn.execute("UPDATE inputs SET metadata = ?", (r'{"k": "\ud800x", "\udfff": [1, "\ud801"]}',))
    text, _ = written(store, fmt)
    if fmt is Format.JSONL:
        assert json.loads(text)["metadata"] == {"k": "\ud800x", "\udfff": [1, "\ud801"]}
    else:
        assert r"\ud800x" in text


def test_the_suffix_tells_the_format() -> None:
    named: dict[str, Any] = {name: Format.of(Path(name)) for name in ("a.csv", "a.JSONL", "a.ndjson", "a", "a.txt")}
    assert named == {
        "a.csv": Format.CSV,
        "a.JSONL": Format.JSONL,
        "a.ndjson": Format.JSONL,
        "a": Format.CSV,
        "a.txt": Format.CSV,
    }


def test_a_store_without_requests_cannot_be_exported(store: StoreMaker) -> None:
    with pytest.raises(UsageError, match="no requests yet"), Reader(store.path) as reader:
        export(reader, io.BytesIO(), Format.CSV)


@pytest.mark.parametrize("fmt", list(Format))
def test_rows_are_passed_on_one_by_one(store: StoreMaker, fmt: Format) -> None:
    """Flat memory: the sink has seen most of the rows before the last one is read."""
    store.take_in([request(f"r{n}", n, metadata={"n": n}) for n in range(1, 501)])
    lines_before_last_row = 0
    with Reader(store.path) as reader:
        sink = io.BytesIO()

        def watched(rows: Iterator[Any]) -> Iterator[Any]:
            nonlocal lines_before_last_row
            for row in rows:
                lines_before_last_row = sink.getvalue().count(b"\n")
                yield row

        original = reader.export_rows
        reader.export_rows = lambda *which: watched(original(*which))  # type: ignore[method-assign]
        export(reader, sink, fmt)
    assert lines_before_last_row >= 499
