"""What must not grow with the number of requests does not; and the benchmarks that show it for millions work."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import export_rows
import rows
from batchrunner.store.read import Reader
from measuring import Size, Table
from memory import Sample, between, peak, slope
from stores import finish, generated, owning, take_in, write_lines
from stretches import without_wire

#: What a peak may differ by from run to run, in MB.
_NOISE_MB = 6
_IMPORT = """
import resource, sys
from pathlib import Path
from batchrunner.clock import SystemClock
from batchrunner.loading import Watcher, load
from stores import generated, owning
with owning(Path(sys.argv[1])) as conn:
    load(conn, generated(int(sys.argv[2])), on_change=None, clock=SystemClock(), watcher=Watcher())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024))
"""
_EXPORT = """
import resource, sys
from pathlib import Path
from batchrunner.export import Format, export
from batchrunner.store.read import Reader
with Reader(Path(sys.argv[1])) as reader:
    export(reader, Path(sys.argv[2]), Format(sys.argv[3]), overwrite=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024))
"""


def peak_mb(program: str, *arguments: object) -> float:
    """Return the peak memory of a process of its own."""
    path = f"import sys; sys.path[:0] = {[str(Path(export_rows.__file__).parent)]!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", path + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return float(done.stdout)


def answered(path: Path, count: int) -> Path:
    """Return a store of *count* requests that are all answered."""
    write_lines(path, count)
    with owning(path.with_suffix(".db")) as conn:
        take_in(conn, path)
        finish(conn, 1, count)
    return path.with_suffix(".db")


def test_an_import_of_a_hundred_thousand_lines_takes_no_more_memory_than_one_of_five_thousand(tmp_path: Path) -> None:
    few = peak_mb(_IMPORT, tmp_path / "few.db", 5_000)
    many = peak_mb(_IMPORT, tmp_path / "many.db", 100_000)
    assert many < few + _NOISE_MB
    with Reader(tmp_path / "many.db") as reader:
        assert reader.progress().pending == 100_000


@pytest.mark.parametrize("fmt", ["csv", "jsonl"])
def test_an_export_of_many_rows_takes_no_more_memory_than_one_of_few(tmp_path: Path, fmt: str) -> None:
    few, many = answered(tmp_path / "few.jsonl", 500), answered(tmp_path / "many.jsonl", 20_000)
    out = tmp_path / "out"
    assert peak_mb(_EXPORT, many, out, fmt) < peak_mb(_EXPORT, few, out, fmt) + _NOISE_MB


def test_a_stretch_settles_what_was_asked_for_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    store = path.with_suffix(".db")
    write_lines(path, 3_000)
    with owning(store) as conn:
        take_in(conn, path)
        finish(conn, 1, 1_000)
    stretch = without_wire(store, 700)
    with Reader(store) as reader:
        progress = reader.progress()
        exported = list(reader.export_rows())
    settled = progress.succeeded - 1_000
    assert 700 <= settled <= 700 + 2 * 200, (
        "what was in flight or about to be may follow the last one that was asked for"
    )
    assert [row["status"] for row in exported] == ["succeeded"] * progress.succeeded + ["pending"] * progress.pending
    assert stretch.seconds > 0
    assert stretch.changes >= 2 * 700
    assert len(stretch.claims_s) >= 2


def test_generated_lines_are_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    write_lines(path, 2_500)
    lines = [json.loads(line.data) for line in generated(2_500).lines()]
    assert lines == [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1]["custom_id"] == "r2499"


def test_the_export_is_measured_beside_a_bare_one() -> None:
    (table,) = export_rows.measure(Size(500, 1, is_short=True))
    assert [row[0] for row in table.rows] == ["csv", "jsonl", "csv, two metadata columns"]
    assert all(float(str(cell).replace(",", "")) > 0 for row in table.rows for cell in row[1:8])


@pytest.mark.parametrize(
    ("held", "expected"), [([40.0] * 5, 0.0), ([40, 42, 44, 46], 2.0), ([50, 40, 50, 40, 50], 0.0), ([7], 0.0)]
)
def test_the_slope_is_that_of_the_least_squares_line(held: Sequence[float], expected: float) -> None:
    assert slope([Sample(100.0 + i, mb) for i, mb in enumerate(held)]) == pytest.approx(expected)


def test_memory_is_looked_at_between_two_instants() -> None:
    samples = [Sample(float(i), 10.0 * i) for i in range(5)]
    assert peak(between(samples, 1.0, 3.0)) == 30.0
    assert peak([]) == 0.0


def test_a_table_is_shown_in_markdown() -> None:
    table = Table("speed", ("what", "rows/s"), [("csv", "90,000"), ("jsonl", None)], ["a note"])
    assert table.lines() == [
        "speed",
        "",
        "| what  | rows/s |",
        "| ----- | ------ |",
        "| csv   | 90,000 |",
        "| jsonl |        |",
        "",
        "a note",
    ]


def test_the_bare_rows_are_those_of_a_run() -> None:
    taken = rows.bare_commits(40, (1, 20))
    assert set(taken) == {1, 20}
    assert all(seconds > 0 and cpu_s > 0 for seconds, cpu_s in taken.values())
