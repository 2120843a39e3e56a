"""Columns, flattened answers, Excel, batch results, job files of what is left."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrunner.csv_cells import CsvWriter, unescape
from batchrunner.errors import UsageError
from batchrunner.export import ExportReport, Format, Options, export
from batchrunner.export.answers import as_object
from batchrunner.export.columns import MOST_ANSWER_COLUMNS, parse_columns
from batchrunner.export.lines import ERROR_TYPES
from batchrunner.export.long_cells import EXCEL_CELL
from batchrunner.jobfile import Defaults
from batchrunner.jobfile.lines import Line
from batchrunner.jobfile.shapes import Shaper
from batchrunner.model import ErrorClass, State, Success, Usage
from batchrunner.store.found import EXPORT_COLUMNS
from batchrunner.store.read import Reader
from batchrunner.store.rows import Chosen
from batchrunner.store.selection import Selection, put_back
from store_helpers import StoreMaker, answer, at, building, failure, request, requests


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def written(store: StoreMaker, fmt: Format, options: Options) -> str:
    sink = io.BytesIO()
    with Reader(store.path) as reader:
        export(reader, sink, fmt, options)
    return sink.getvalue().decode()


def to_file(store: StoreMaker, target: Path, options: Options, *, overwrite: bool = False) -> ExportReport:
    with Reader(store.path) as reader:
        return export(reader, target, Format.of(target), options, overwrite=overwrite)


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def message(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "model": "claude-haiku-4-5",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    } | more


def success(text: str, **more: Any) -> Success:
    # Set out nicely, as a gateway might: line ends between the parts must not break lines of the export.
    body = json.dumps(message(text, **more), indent=1).replace("\n", "\r\n")
    return Success(body, text, more.get("stop_reason", "end_turn"), "claude-haiku-4-5", Usage(1, 2), "req_1")


# Columns


def test_columns_come_as_they_are_asked_for(store: StoreMaker) -> None:
    store.take_in([request("a", 7, metadata={"topic": "x", "text": "mine", "line": "own", "deep": [1]})])
    store.begin()
    store.settle("a", success("hi"))
    wanted = ("topic", "text", "custom_id", "metadata.text", "metadata", "line", "deep")
    header, cells = table(written(store, Format.CSV, Options(columns=wanted)))
    assert header == list(wanted)
    assert cells[:4] == ["x", "hi", "a", "mine"]
    assert json.loads(cells[4])["deep"] == [1]
    assert cells[5:] == ["own", "[1]"], "a metadata key goes before a column that exists on demand only"
    (line,) = written(store, Format.JSONL, Options(columns=("message", "deep", "custom_id"))).splitlines()
    assert list(json.loads(line).items()) == [("message", message()), ("deep", [1]), ("custom_id", "a")]


def test_the_line_of_the_job_file_is_a_column_on_demand(store: StoreMaker) -> None:
    store.take_in([request("a", 7)])
    assert table(written(store, Format.CSV, Options(columns=("line", "message")))) == [["line", "message"], ["7", ""]]
    assert json.loads(written(store, Format.JSONL, Options(columns=("line", "metadata")))) == {
        "line": 7,
        "metadata": None,
    }


def test_a_column_that_does_not_exist_is_named_with_those_that_do(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"topic": 1})])
    with pytest.raises(UsageError, match=r"no column txt\. Columns: custom_id, .*topic.*line"):
        written(store, Format.CSV, Options(columns=("custom_id", "txt")))
    with pytest.raises(UsageError, match="text twice"):
        written(store, Format.CSV, Options(columns=("text", "text")))
    with pytest.raises(UsageError, match="form of their own"):
        written(store, Format.BATCH_RESULTS, Options(columns=("text",)))


def test_names_of_columns_are_parsed_as_csv() -> None:
    assert parse_columns('custom_id, text,"a,b"') == ["custom_id", "text", "a,b"]
    for text in ("", "a,,b", ","):
        with pytest.raises(UsageError, match="--columns takes"):
            parse_columns(text)


# Flattened answers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (' \n{"a": {"b": []}} ', {"a": {"b": []}}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{\n"a": 1\n}\n```\n', {"a": 1}),
        ("{}", {}),
        ("", None),
        (None, None),
        ("[1]", None),
        ("42", None),
        ('Here it is: {"a": 1}', None),
        ('{"a": NaN}', None),
        ('{"a": 1', None),
        ('{"a": ' + "[" * 100_000, None),
        ('{"a": ' + "1" * 5000 + "}", None),
    ],
)
def test_answers_that_are_json_objects_are_known(text: str | None, value: dict[str, Any] | None) -> None:
    assert as_object(text) == value


def test_json_answers_become_columns_and_others_stay_text(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"answer.city": "!"}), *requests(4, first=2)])
    store.begin()
    store.settle("a", answer('{"city": "Graz", "n": -1.5, "ok": true}'))
    store.settle("r2", answer("I cannot say"))
    store.settle("r3", answer('```json\n{"city": "=1+1", "deep": {"x": ["ü"]}, "n": null}\n```'))
    store.settle("r4", failure(ErrorClass.SERVER))
    header, *rows = table(written(store, Format.CSV, Options(flatten=True)))
    assert header[15:] == ["answer.city", "metadata.answer.city", "answer.n", "answer.ok", "answer.deep"]
    assert [[row[2], *row[15:]] for row in rows] == [
        ["", "!", "Graz", "-1.5", "true", ""],
        ["I cannot say", "", "", "", "", ""],
        ["", "", "'=1+1", "", "", '{"x": ["ü"]}'],
        ["", "", "", "", "", ""],
        ["", "", "", "", "", ""],
    ]
    lines = [json.loads(line) for line in written(store, Format.JSONL, Options(flatten=True)).splitlines()]
    assert (lines[2]["answer.deep"], lines[2]["text"]) == ({"x": ["ü"]}, None)
    assert lines[0]["metadata"] == {"answer.city": "!"}
    chosen = Options(flatten=True, columns=("answer.n", "custom_id"))
    assert table(written(store, Format.CSV, chosen))[1] == ["-1.5", "a"]


def test_chosen_columns_of_answers_may_come_before_the_answers(store: StoreMaker) -> None:
    store.take_in([request("a", 1, metadata={"answer.city": "!"}), request("b", 2)])
    store.begin()
    chosen = Options(flatten=True, columns=("custom_id", "answer.city", "answer.n"))
    assert table(written(store, Format.CSV, chosen))[1:] == [["a", "!", ""], ["b", "", ""]]
    store.settle("b", answer('{"city": "Graz"}'))
    with pytest.raises(UsageError, match=r"no column answer\.n"):
        written(store, Format.CSV, chosen)


def test_only_chosen_rows_make_columns(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r1", answer('{"a": 1}'))
    store.settle("r2", answer('{"b": 1}'))
    options = Options(Chosen(where="custom_id = 'r2'"), flatten=True)
    assert table(written(store, Format.CSV, options))[0][15:] == ["answer.b"]


def test_answers_with_endless_keys_are_no_table(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r1", answer(json.dumps({f"k{n}": n for n in range(MOST_ANSWER_COLUMNS + 1)})))
    with pytest.raises(UsageError, match="too many for columns"):
        written(store, Format.CSV, Options(flatten=True))
    assert table(written(store, Format.CSV, Options(flatten=True, columns=("answer.k7",))))[1] == ["7"]


# Excel


def test_excel_gets_a_mark_and_cells_it_can_hold(store: StoreMaker, tmp_path: Path) -> None:
    fits, wide, formula = "x" * EXCEL_CELL, "😀" * (EXCEL_CELL // 2 + 1), "=" + "x" * (EXCEL_CELL - 1)
    store.take_in([request("a", 1, metadata={"note": wide}), *requests(2, first=2)])
    store.begin()
    store.settle("a", answer(fits))
    store.settle("r2", answer(formula))
    target = tmp_path / "out.csv"
    report = to_file(store, target, Options(excel=True))
    side = tmp_path / "out.long-cells.jsonl"
    assert (report.long_cells, report.side_file) == (2, side)
    assert target.read_bytes().startswith(b"\xef\xbb\xbfcustom_id,")
    rows = table(target.read_text("utf-8-sig"))
    assert rows[1][2] == fits
    assert rows[1][15] == "[16,384 characters: line 1 of out.long-cells.jsonl]"
    assert rows[2][2] == "[32,767 characters: line 2 of out.long-cells.jsonl]"
    assert [json.loads(line) for line in side.read_text().splitlines()] == [
        {"custom_id": "a", "column": "note", "text": wide},
        {"custom_id": "r2", "column": "text", "text": formula},
    ]
    assert side.stat().st_mode & 0o777 == 0o600


def test_no_file_is_made_beside_the_export_without_need(store: StoreMaker, tmp_path: Path) -> None:
    store.take_in(requests(1))
    report = to_file(store, tmp_path / "out.csv", Options(excel=True))
    assert (report.long_cells, report.side_file) == (0, None)
    assert not (tmp_path / "out.long-cells.jsonl").exists()


def test_neither_file_appears_if_one_is_in_the_way(store: StoreMaker, tmp_path: Path) -> None:
    store.take_in(requests(1))
    store.begin()
    store.settle("r1", answer("x" * 40_000))
    side = tmp_path / "out.long-cells.jsonl"
    side.write_text("mine")
    with pytest.raises(UsageError, match=r"long-cells.jsonl exists; -f"):
        to_file(store, tmp_path / "out.csv", Options(excel=True))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".b", "out"))) == [side.name]
    assert to_file(store, tmp_path / "out.csv", Options(excel=True), overwrite=True).long_cells == 1
    assert side.read_text() != "mine"


def test_excel_is_about_csv_files(store: StoreMaker, tmp_path: Path) -> None:
    store.take_in(requests(1))
    with pytest.raises(UsageError, match="--excel needs a file"):
        written(store, Format.CSV, Options(excel=True))
    with pytest.raises(UsageError, match="about CSV"):
        to_file(store, tmp_path / "out.jsonl", Options(excel=True))


# Round trips

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def read_by_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def read_by_pandas(path: Path) -> list[list[str]]:
    """Read as docs/export.md says, with the header as a row: pandas gives names of its own to columns that have none."""
    pandas: Any = pytest.importorskip("pandas")
    cells: list[list[str]] = pandas.read_csv(path, header=None, dtype=str, keep_default_na=False).to_numpy().tolist()
    return cells


@pytest.mark.parametrize("read", [read_by_csv, read_by_pandas])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(ANY, min_size=1, max_size=3), key=ANY, value=ANY)
def test_any_text_comes_back_from_a_csv(
    tmp_path_factory: pytest.TempPathFactory,
    read: Callable[[Path], list[list[str]]],
    answers: list[str],
    key: str,
    value: str,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    with building(folder / "jobs.db") as store:
        store.take_in([request(f"id {n} {value}", n, metadata={key: value}) for n in range(1, len(answers) + 1)])
        store.begin()
        for n, text in enumerate(answers, 1):
            store.settle(f"id {n} {value}", answer(text))
        for excel in (False, True):
            target = folder / f"out{excel}.csv"
            to_file(store, target, Options(excel=excel))
            header, *rows = [[unescape(cell) for cell in row] for row in read(target)]
            assert header[: len(EXPORT_COLUMNS)] == list(EXPORT_COLUMNS)
            assert header[-1].removeprefix("metadata.") == key.removeprefix("metadata.")
            assert [(row[0], row[2], row[-1]) for row in rows] == [
                (f"id {n} {value}", text, value) for n, text in enumerate(answers, 1)
            ]


@pytest.mark.parametrize("read", [read_by_csv, read_by_pandas])
@pytest.mark.parametrize("raw", [False, True])
def test_every_character_there_is_comes_back_from_a_csv(
    tmp_path: Path, read: Callable[[Path], list[list[str]]], raw: bool
) -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    given_rows = [characters[n : n + 16] for n in range(0, len(characters), 16)]
    target = tmp_path / "out.csv"
    with target.open("wb") as file:
        line_by_line = CsvWriter(file.write, raw=raw)
        for row in given_rows:
            line_by_line.row(row)
    assert [row if raw else [unescape(cell) for cell in row] for row in read(target)] == given_rows


def with_every_ending(store: StoreMaker) -> None:
    classes = list(ErrorClass)
    store.take_in([*requests(3), *(request(str(c), n, metadata={"c": str(c)}) for n, c in enumerate(classes, 4))])
    store.begin()
    store.settle("r1", success("first\nsecond"))
    store.settle("r2", failure(ErrorClass.TRUNCATED, kept=success("cut", stop_reason="max_tokens")))
    for c in classes:
        store.settle(str(c), failure(c, f"it's {c} – \u2028"))


def test_batch_results_read_back_through_the_sdk(store: StoreMaker) -> None:
    from anthropic._decoders.jsonl import JSONLDecoder
    from anthropic.types.messages import MessageBatchIndividualResponse
    from httpx2 import Response

    with_every_ending(store)
    text = written(store, Format.BATCH_RESULTS, Options())
    strict = [MessageBatchIndividualResponse.model_validate_json(line) for line in text.split("\n")[:-1]]
    decoder = JSONLDecoder(
        raw_iterator=iter([text.encode()]), line_type=MessageBatchIndividualResponse, http_response=Response(200)
    )
    assert list(decoder) == strict, "as the SDK itself reads a stream of results"
    found = {one.custom_id: one.result for one in strict}
    assert len(found) == 3 + len(ErrorClass)
    first, cut = found["r1"], found["r2"]
    assert first.type == cut.type == "succeeded"
    assert first.message.to_dict() == message("first\nsecond")
    assert cut.message.stop_reason == "max_tokens"
    assert found["r3"].type == "canceled"
    assert found["expired"].type == "expired"
    for c in set(ErrorClass) - {ErrorClass.EXPIRED}:
        result = found[str(c)]
        assert result.type == "errored"
        assert type(result.error.error).__module__.startswith("anthropic.types.shared"), c
        assert result.error.error.type == ERROR_TYPES.get(c, "api_error")
        assert result.error.error.message == f"{c}: it's {c} – \u2028"


def test_what_is_left_is_a_job_file_with_the_same_requests(store: StoreMaker) -> None:
    given = [
        {"custom_id": "a", "params": {"messages": [{"role": "user", "content": "ü \u2028 \\"}], "big": 10**30}},
        {
            "custom_id": "-5",
            "params": {"messages": [{"role": "user", "content": "x"}]},
            "metadata": {"n": 1.50, "é": []},
        },
        {"id": "c", "prompt": "y", "timeout_s": 7.5, "metadata": {"user_id": "u"}},
        {"id": "done", "prompt": "z"},
    ]
    shaper = Shaper(Defaults(model="claude-haiku-4-5", max_tokens=9))
    taken = [shaper.request(Line(n, 0, json.dumps(line).encode())) for n, line in enumerate(given, 1)]
    store.take_in(taken)
    store.begin()
    store.settle("done", answer())
    text = written(store, Format.JOB_FILE, Options(Chosen(State.PENDING)))
    again = [Shaper(Defaults()).request(Line(n, 0, line.encode())) for n, line in enumerate(text.split("\n")[:-1], 1)]
    assert [(r.custom_id, r.params, r.metadata, r.timeout_s, r.params_hash) for r in again] == [
        (r.custom_id, r.params, r.metadata, r.timeout_s, r.params_hash) for r in taken[:3]
    ]


def test_changes_by_retry_are_laid_over_what_is_left(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r1", failure(ErrorClass.TRUNCATED))
    put_back(store.conn, Selection(patch={"max_tokens": 16000, "system": "é"}), at=at("12:00:00"))
    put_back(store.conn, Selection(ids=["r1"], patch={"max_tokens": 7}), at=at("12:00:00"))
    lines = written(store, Format.JOB_FILE, Options(Chosen(State.PENDING))).splitlines()
    params = [json.loads(line)["params"] for line in lines]
    assert (params[0]["max_tokens"], params[0]["system"], params[1]["max_tokens"]) == (16000, "é", 10)
