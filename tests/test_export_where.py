import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrunner.errors import StoreError, UsageError
from batchrunner.export import Format, Options, export
from batchrunner.model import ErrorClass, State
from batchrunner.store import where
from batchrunner.store.read import Reader
from batchrunner.store.rows import Chosen
from store_helpers import StoreMaker, answer, building, failure, request, requests


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        maker.take_in([request("a", 1, metadata={"topic": "x", "n": 3}), request("b", 2), *requests(3, first=3)])
        maker.begin()
        maker.settle("a", answer('{"n": 5}'))
        maker.settle("b", failure(ErrorClass.INVALID, "it's wrong"))
        maker.settle("r3", answer("four words are here"))
        yield maker


def ids(store: StoreMaker, expression: str | None, only: State | None = None) -> list[str]:
    with Reader(store.path) as reader:
        return [row["custom_id"] for row in reader.export_rows(Chosen(only, expression))]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("status = 'failed'", "b"),
        ("status = 'failed' -- a comment", "b"),
        ("status = 'failed' /* a comment */", "b"),
        ("output_tokens > 10", "a r3"),
        ("output_tokens > 10 AND text LIKE 'four%'", "r3"),
        ("status = 'failed' OR line >= 4", "b r4 r5"),
        ("json_extract(metadata, '$.topic') = 'x'", "a"),
        ("json_valid(text) AND json_extract(text, '$.n') = 5", "a"),
        ("custom_id IN (SELECT custom_id FROM failures)", "b"),
        ("CASE WHEN line = 1 THEN 1 ELSE 0 END", "a"),
        ("error_message = 'it''s wrong'", "b"),
        ("text = ')'", ""),
        ("length(message) > 5", "a r3"),
        ("attempts", "a b r3"),
        ("NULL", ""),
        ("random() IS NOT NULL", "a b r3 r4 r5"),
    ],
)
def test_conditions_choose_rows_in_the_order_of_the_input(store: StoreMaker, expression: str, found: str) -> None:
    assert ids(store, expression) == found.split()


def test_a_condition_and_a_state_hold_together(store: StoreMaker) -> None:
    assert ids(store, "line < 5", State.PENDING) == ["r4"]
    assert ids(store, None, State.FAILED) == ["b"]


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        ("", "syntax error"),
        ("nonsense here", "syntax error"),
        ("foo = 1", "no such column: foo.*Columns: custom_id, status"),
        ("status = 'failed", "unrecognized token|incomplete"),
        ("status = 'failed' /*", "incomplete|syntax error|unrecognized"),
        ("1) OR (1", "syntax error"),
        ("1) UNION SELECT 1 FROM (SELECT 1", "syntax error"),
        ("1 THEN 1 END UNION SELECT 1 WHERE CASE WHEN 1", "syntax error"),
        ("1; DROP TABLE requests", "syntax error"),
        ("count(*) > 1", "misuse of aggregate"),
        ("no_such_function(1)", "no such function"),
        ("load_extension('x')", "nothing else"),
        ("zeroblob(1000000000) IS NULL", "nothing else"),
        ("(SELECT count(*) FROM pragma_table_info('job'))", "nothing else"),
        ("(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c)", "nothing else"),
        ("custom_id = ?", "bindings"),
        ("custom_id = :id", "bindings"),
        ("json_extract(text, '$.n') = 5", "json_valid"),
        ("abs(-9223372036854775808) > 0 AND line = 1", "overflow"),
        ("a\0b", "."),
        ("custom_id = '\ud800'", "."),
    ],
)
def test_what_is_no_condition_is_refused_with_its_cause(store: StoreMaker, expression: str, cause: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)--where.*({cause})") as caught:
        ids(store, expression)
    assert len(str(caught.value)) < 600
    assert len(ids(store, None)) == 5


def test_nothing_is_written_before_a_condition_is_found_good(store: StoreMaker) -> None:
    sink = io.BytesIO()
    with pytest.raises(UsageError), Reader(store.path) as reader:
        export(reader, sink, Format.CSV, Options(Chosen(where="nonsense(")))
    assert sink.getvalue() == b""


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM requests",
        "UPDATE job SET failed = 9",
        "ATTACH ':memory:' AS other",
        "PRAGMA query_only = OFF",
        "CREATE TEMP TABLE t (x)",
        "SELECT load_extension('x')",
        "VACUUM INTO '/tmp/batchrunner-must-not-be-there.db'",
        "REINDEX",
        "ANALYZE",
        "SAVEPOINT x",
    ],
)
def test_the_guard_alone_permits_reading_only(store: StoreMaker, sql: str) -> None:
    """Even if a condition found a way out of its place."""
    with Reader(store.path) as reader, pytest.raises((UsageError, StoreError)):
        list(where.rows_where(reader._conn, sql, "1"))
    assert store.conn.execute("SELECT count(*) FROM requests").fetchone()[0] == 5


def test_the_guard_is_gone_afterwards(store: StoreMaker) -> None:
    with Reader(store.path) as reader:
        rows = reader.export_rows(Chosen(where="1"))
        next(rows)
        rows.close()  # type: ignore[attr-defined]
        assert reader._conn.execute("PRAGMA user_version").fetchone()[0] > 0
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            reader._conn.execute("DELETE FROM requests")


def test_a_condition_that_takes_forever_is_given_up(store: StoreMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_SILENT_S", 0.05)
    store.take_in(requests(300, first=10))
    product = ", ".join(f"requests r{n}" for n in range(5))
    with pytest.raises(UsageError, match="was given up"):
        ids(store, f"(SELECT sum(r1.line * r2.line) FROM {product}) < 0")


PIECES = st.sampled_from(
    ["1", "(", ")", "'", '"', ";", "--", "/*", "*/", "\n", " ", "CASE WHEN", "THEN 1 END", "OR", "AND", "UNION", "ALL",
     "SELECT", "SELECT 1", "FROM job", "status", "=", "'x'", "LIMIT 0", "ORDER BY 1", ",", "WHERE", "text", "NOT", "[", "`"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=9).map(" ".join))
def test_whatever_is_given_is_a_condition_or_refused(store: StoreMaker, expression: str) -> None:
    """A subset of the rows in their order, or a usage error: nothing is added and nothing reordered."""
    try:
        found = ids(store, expression)
    except UsageError:
        return
    everybody = ids(store, None)
    assert found == [one for one in everybody if one in found]


def test_metadata_of_the_store_is_untouched_by_reading(store: StoreMaker) -> None:
    before = store.conn.execute("SELECT total(seq), group_concat(state) FROM requests").fetchone()
    ids(store, "line > 0")
    assert tuple(store.conn.execute("SELECT total(seq), group_concat(state) FROM requests").fetchone()) == tuple(before)
    assert json.loads(store.conn.execute("SELECT metadata FROM inputs WHERE seq = 1").fetchone()[0])["n"] == 3
