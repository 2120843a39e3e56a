"""How fast a store of finished requests is exported, and in what memory, beside bare sqlite3 with csv and json.

python benchmarks/export_rows.py [ROWS] [--short] [--json]     1,000,000 rows; some 2.5 GB below $TMPDIR

Each export is a command as one types it, its start-up included. The yardstick is a process of its own too: it reads the
same view in the same order and writes what it reads with `csv.writer` or `json.dumps`: no cell is looked at for formulas,
no surrogate minded, no file moved in place. One request in ten thousand has no answer yet.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from measuring import Size, Table, benchmark, beside, middle, rate
from memory import peak, slope
from processes import BATCHRUNNER, PYTHON, Spent, spent
from stores import finish, owning, take_in, write_lines

_COLUMNS = (
    "custom_id, status, text, stop_reason, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, "
    "cost_usd, attempts, latency_s, error_class, error_message, api_request_id, metadata"
)
_READ = f"""import csv, json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("SELECT {_COLUMNS} FROM results_flat WHERE line IS NOT NULL ORDER BY line")
names = [one[0] for one in rows.description]
with open(sys.argv[2], "w", newline="", encoding="utf-8") as file:
    """
_BARE = {
    "csv": _READ + "csv.writer(file).writerows(rows)",
    "jsonl": _READ + "file.writelines(json.dumps(dict(zip(names, row)), ensure_ascii=False) + '\\n' for row in rows)",
}
_FEW = 1_000
_METADATA = """UPDATE inputs SET metadata = '{"topic":"sums","page":' || seq || '}' WHERE seq <= :last"""


def measure(size: Size) -> Sequence[Table]:
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        plain, few = _store(folder / "plain.jsonl", size.count), _store(folder / "few.jsonl", _FEW)
        table = Table(
            f"export of {size.count:,} rows",
            (
                "format",
                "rows/s",
                "CPU us each",
                "bare rows/s",
                "CPU us each",
                "ratio",
                "memory of few rows, MB",
                "of all",
                "slope, MB per s",
            ),
            notes=["ratio: the bare loop's time by ours, above 1 is faster than it; the memory of few rows: of 1,000"],
        )
        table.rows = [_row(fmt, fmt, plain, few, size) for fmt in ("csv", "jsonl")]
        with owning(plain) as conn:
            conn.execute(_METADATA, {"last": size.count})
        table.rows.append(_row("csv, two metadata columns", "csv", plain, few, size))
    return [table]


def _store(path: Path, count: int) -> Path:
    store = path.with_suffix(".db")
    write_lines(path, count)
    with owning(store) as conn:
        take_in(conn, path)
        finish(conn, 1, count - count // 10_000)
    return store


def _row(name: str, fmt: str, store: Path, few: Path, size: Size) -> Sequence[object]:
    ours, bare = [], []
    for _ in range(size.rounds):
        ours.append(_exported(store, fmt, size.count))
        with _output(store) as target:
            bare.append(spent([*PYTHON, _BARE[fmt], str(store), str(target)]))
    held = ours[-1].samples
    return (
        name,
        *_figures(size.count, ours),
        *_figures(size.count, bare),
        beside([one.seconds for one in bare], [one.seconds for one in ours]),
        f"{peak(_exported(few, fmt, _FEW).samples):.0f}",
        f"{peak(held):.0f}",
        f"{slope(held[len(held) // 10 :]):+.2f}",  # without the start-up, in which modules are loaded
    )


def _figures(rows: int, done: Sequence[Spent]) -> tuple[str, str]:
    return rate(rows, [one.seconds for one in done]), f"{1e6 * middle([one.cpu_s for one in done]) / rows:.1f}"


def _exported(store: Path, fmt: str, count: int) -> Spent:
    with _output(store) as target:
        done = spent([*BATCHRUNNER, "export", str(store), "--format", fmt, "-o", str(target)])
        with target.open("rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        assert lines == count + (fmt == "csv")
    return done


@contextlib.contextmanager
def _output(store: Path) -> Iterator[Path]:
    target = store.with_suffix(".out")
    try:
        yield target
    finally:
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    benchmark(__doc__, measure, short=50_000, long=1_000_000)
