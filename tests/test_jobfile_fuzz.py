"""Whole job files of any bytes: never a traceback, never a good line lost, the same ids every time.

`make fuzz` does the same for ten minutes, led by coverage.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchrunner.clock import SystemClock
from batchrunner.errors import BatchrunnerError
from batchrunner.jobfile import Format
from batchrunner.loading import Source, Watcher, load
from builders import opened_store, rows
from faults.importing import DEFAULTS, FIRST, LAST, check_bytes, check_lines, told

#: What lines are made of, and what has harmed readers of lines elsewhere.
PIECES = [
    *(b'{"id": "a", "prompt": "Hi"}', b'{"prompt": "x"}', b'"just a text"', b'{"params": {"messages": []}}', b"null"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\r", b"\r\n", b"\n", b"\x0b", b"\x0c", b"\x1c", b"\x85"),
    *("\u2028".encode(), "\u202e".encode(), b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\\ud83c\\udf88", b"\xf0\x9f"),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 300, b'{"a":' * 300, b'{"a": 1, "a": 2}', b"-0", b"1E400"),
    *(b'"', b"'", b",", b"\t", b'""', b"a,b\n1,2\n", b'a\tb\n"1\t2', b"{", b"}", b"[", b"]", b":", b"\\", b" "),
    *(b'{"model": 5}', b'{"max_tokens": -1, "prompt": "x"}', b'{"id": 1e5, "prompt": "x"}', b'{"custom_id": ""}'),
    *(
        b'{"messages": [{"role": "system", "content": "x"}], "model": "gpt-4"}',
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0",
        b"PK\3\4",
    ),
]
piece = st.sampled_from(PIECES) | st.binary(max_size=40)
blob = st.lists(piece, max_size=12).map(b"".join)
row = st.dictionaries(
    st.sampled_from(
        ["id", "custom_id", "prompt", "messages", "model", "max_tokens", "metadata", "params", "timeout_s"]
    ),
    st.none() | st.text(max_size=9) | st.integers() | st.floats() | st.lists(st.text(max_size=3), max_size=2),
    max_size=4,
).map(lambda value: json.dumps(value).encode())
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize("form", Format)
@given(data=blob)
@example(data=b"9" * 2000)
@RELAXED
def test_any_bytes_are_requests_or_faults_and_the_same_every_time(form: Format, is_table: bool, data: bytes) -> None:
    check_bytes(data, form, is_table=is_table)


@given(st.lists(blob | row, max_size=6))
@RELAXED
def test_bad_lines_take_no_good_one_with_them(parts: list[bytes]) -> None:
    check_lines([part.replace(b"\n", b"") for part in parts])


@given(parts=st.lists(blob | row, max_size=4), is_packed=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_whole_file_goes_into_the_store_or_is_refused_in_words(
    tmp_path: Path, parts: list[bytes], is_packed: bool
) -> None:
    data = FIRST + b"\n" + b"\n".join(parts) + b"\n" + LAST
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(gzip.compress(data) if is_packed else data)
    for store in tmp_path.glob("jobs.db*"):
        store.unlink()
    source = Source(path, DEFAULTS, skip_invalid=True)
    with opened_store(tmp_path / "jobs.db") as conn:
        for again in (False, True):
            taken: Any = None
            try:
                taken = load(conn, source, on_change=None, clock=SystemClock(), watcher=Watcher())
            except BatchrunnerError as refused:  # ids that stand for two different lines
                told(str(refused))
                assert rows(conn, "SELECT count(*) FROM requests") == [(0,)]
                break
            assert (taken is None) == again, "the same bytes are not taken in twice"
            ids = [custom_id for (custom_id,) in rows(conn, "SELECT custom_id FROM requests ORDER BY line")]
            assert {"the first good line № 1", "the last good line № 2"} <= set(ids)
