"""From bytes to lines: splitting, line ends, marks, limits, foreign formats, fingerprint."""

import hashlib
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.errors import InputError
from batchrunner.jobfile import Line, read_lines, split_lines

BOM = b"\xef\xbb\xbf"


def lines(data: bytes) -> list[Line]:
    return list(read_lines(io.BytesIO(data)))


class Trickle:
    """A stream that hands out one byte at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, _size: int, /) -> bytes:
        return self._data.read(1)


class Broken:
    def read(self, _size: int, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_lines_carry_number_and_offset() -> None:
    assert lines(b'"a"\n"bc"\n') == [Line(1, 0, b'"a"'), Line(2, 4, b'"bc"')]


def test_last_line_needs_no_newline() -> None:
    assert lines(b'"a"\n"b"') == [Line(1, 0, b'"a"'), Line(2, 4, b'"b"')]


def test_crlf_is_a_line_end() -> None:
    assert lines(b'"a"\r\n"b"\r\n') == [Line(1, 0, b'"a"'), Line(2, 5, b'"b"')]


def test_blank_lines_are_passed_over_and_counted() -> None:
    assert lines(b'\n \t\n"a"\n\r\n\n"b"\n\n') == [Line(3, 4, b'"a"'), Line(6, 11, b'"b"')]


def test_lone_cr_and_unicode_line_separators_are_data() -> None:
    data = '{"prompt":\r"a\u2028b\u0085c\x0bd"}'.encode()
    assert lines(data + b"\n") == [Line(1, 0, data)]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"  ", BOM, BOM + b"\r\n"])
def test_an_input_without_a_line_gives_none(data: bytes) -> None:
    reader = read_lines(io.BytesIO(data))
    assert list(reader) == []
    assert reader.fingerprint.size == len(data)


def test_mark_at_the_start_is_no_part_of_the_text() -> None:
    assert lines(BOM + b'"a"\n"b"') == [Line(1, 3, b'"a"'), Line(2, 7, b'"b"')]


def test_mark_in_mid_file_stays_for_the_decoder_to_name() -> None:
    assert lines(b'"a"\n' + BOM + b'"b"') == [Line(1, 0, b'"a"'), Line(2, 4, BOM + b'"b"')]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_named_with_or_without_a_mark(encoding: str) -> None:
    name = encoding[:6].upper()
    with pytest.raises(InputError, match=f"looks like {name}.*UTF-8") as caught:
        lines('{"prompt": "a"}\n'.encode(encoding))
    assert type(caught.value) is InputError


def test_big_endian_marks_are_known() -> None:
    with pytest.raises(InputError, match="looks like UTF-16"):
        lines(b"\xfe\xff" + '"a"'.encode("utf-16-be"))
    with pytest.raises(InputError, match="looks like UTF-32"):
        lines(b"\x00\x00\xfe\xff" + '"a"'.encode("utf-32-be"))


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"SQLite format 3\0", "store"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ],
)
def test_files_given_by_mistake_are_named(start: bytes, named: str) -> None:
    with pytest.raises(InputError, match=named):
        lines(start + b"\x00" * 100)


def test_wide_encoding_is_seen_through_a_stream_that_trickles() -> None:
    with pytest.raises(InputError, match="UTF-16"):
        list(read_lines(Trickle('{"prompt"'.encode("utf-16"))))


def test_one_byte_of_text_is_a_line() -> None:
    assert lines(b"1") == [Line(1, 0, b"1")]


def test_nul_bytes_within_are_data_for_the_decoder_to_refuse() -> None:
    assert lines(b'"a"\n\x00\x00\n')[1] == Line(2, 4, b"\x00\x00")


def test_a_line_above_the_limit_is_a_fault_and_reading_goes_on() -> None:
    data = b'"a"\n' + b"x" * 50 + b'\n"b"\n' + b"y" * 50
    found = list(read_lines(io.BytesIO(data), max_line_bytes=20, block_bytes=8))
    assert [(line.number, line.offset, line.data) for line in found] == [
        (1, 0, b'"a"'),
        (2, 4, b""),
        (3, 55, b'"b"'),
        (4, 59, b""),
    ]
    assert found[1].fault == "50 bytes long; the API takes at most 20 in one request"
    assert found[3].fault is not None


@pytest.mark.parametrize("block_bytes", [1, 3, 1000])
def test_the_limit_itself_is_allowed(block_bytes: int) -> None:
    data = b"x" * 20 + b"\n" + b"y" * 21 + b"\n" + b"z" * 20
    found = list(read_lines(io.BytesIO(data), max_line_bytes=20, block_bytes=block_bytes))
    assert [line.fault is None for line in found] == [True, False, True]


def test_a_huge_line_takes_no_memory() -> None:
    class Huge:
        """50 MB without a newline, then a short line."""

        blocks = 50

        def read(self, _size: int, /) -> bytes:
            self.blocks -= 1
            return b"x" * 1_000_000 if self.blocks >= 0 else b'\n"b"' if self.blocks == -1 else b""

    tracemalloc.start()
    try:
        found = list(read_lines(Huge(), max_line_bytes=4_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [line.number for line in found] == [1, 2]
    assert found[0].fault is not None
    assert found[0].fault.startswith("50,000,000 bytes")
    assert found[1] == Line(2, 50_000_001, b'"b"')
    assert peak < 10_000_000


def test_fingerprint_covers_every_byte(tmp_path: Path) -> None:
    data = BOM + b'"a"\r\n\n"b"' + b"x" * 10_000
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(data)
    reader = read_lines(path, max_line_bytes=100, block_bytes=64)
    assert len(list(reader)) == 2
    assert reader.fingerprint == (len(data), hashlib.sha256(data).hexdigest())
    assert reader.bytes_read == len(data)


def test_fingerprint_is_not_to_be_had_before_the_end() -> None:
    reader = read_lines(io.BytesIO(b'"a"\n"b"'))
    next(reader)
    with pytest.raises(RuntimeError, match="after its last line"):
        _ = reader.fingerprint


def test_path_may_be_text_too(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'"a"')
    assert list(read_lines(str(path))) == [Line(1, 0, b'"a"')]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        list(read_lines(tmp_path / "nowhere.jsonl"))


def test_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory: name the job file in it"):
        list(read_lines(tmp_path))


def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe or a device: write its content to a file"):
        list(read_lines(tmp_path / "pipe"))


def test_path_that_no_system_takes_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        list(read_lines("a\0b"))


def test_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be opened: Not a directory"):
        list(read_lines(tmp_path / "file" / "jobs.jsonl"))


def test_a_stream_without_data_yet_is_not_taken_for_its_end() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, b'"first"\n"sec')
    with os.fdopen(reading, "rb", buffering=0) as stream, pytest.raises(InputError, match="no data yet"):
        list(read_lines(stream))
    os.close(writing)


def test_failing_disk_is_an_input_error() -> None:
    with pytest.raises(InputError, match="cannot be read: Input/output error"):
        list(read_lines(Broken()))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b" ", b"\t", b"a", b"bcd", b"\x00", b"\xff", BOM]), max_size=30),
    st.integers(1, 9),
    st.integers(1, 6),
)
def test_lines_do_not_depend_on_where_blocks_end(parts: list[bytes], block: int, limit: int) -> None:
    data = b"".join(parts)
    blocks = [data[start : start + block] for start in range(0, len(data), block)]
    found = list(split_lines(blocks, max_line_bytes=limit))
    expected, offset = [], 0
    for number, piece in enumerate(data.split(b"\n"), 1):
        if len(piece) > limit:
            expected.append((number, offset, b"", True))
        elif piece.strip():
            expected.append((number, offset, piece.rstrip(b"\r"), False))
        offset += len(piece) + 1
    assert [(line.number, line.offset, line.data, line.fault is not None) for line in found] == expected
