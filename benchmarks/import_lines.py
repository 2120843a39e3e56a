"""How fast a job file is read, checked and stored, to the last index, and what memory that takes.

python benchmarks/import_lines.py [LINES] [--short] [--json]     300,000 lines; some 300 MB below $TMPDIR

Beside bare sqlite3: `json.loads`, and the same rows into the same tables with the same indexes, nothing checked, nothing
hashed, no id made. The derived ids are hashes, so their index has no order to profit from. The memory is that of a
process of its own that takes the file in, beside one with a thousand lines.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bare import bare_import
from batchrunner.clock import SystemClock
from batchrunner.jobfile import Defaults, Template
from batchrunner.loading import Source, Watcher, load
from measuring import Size, Table, benchmark, beside, middle, rate
from stores import MODEL, owning, write_lines

_FEW = 1_000
_PROMPT = "What is {a} plus {b}?"


def measure(size: Size) -> Sequence[Table]:
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        forms: dict[str, Callable[[int], Path]] = {
            "batch lines, each with an id": lambda lines: _batch_lines(folder, lines),
            "prompts, ids from the lines": lambda lines: _prompts(folder, lines),
            "CSV with a template": lambda lines: _table(folder, lines),
        }
        table = Table(
            f"import of {size.count:,} lines",
            (
                "input",
                "lines/s",
                "CPU us each",
                "bare lines/s",
                "CPU us each",
                "ratio",
                f"memory of {_FEW:,}, MB",
                "of all, MB",
            ),
            notes=[
                "ratio: the bare loop's time by ours, above 1 is faster than it; it reads the batch lines every time"
            ],
        )
        for form, write in forms.items():
            few, many = write(_FEW), write(size.count)
            ours, bare = [], []
            for _ in range(size.rounds):
                ours.append(_spent(many))
                bare.append(bare_import(size.count))
            figures = (*_figures(size.count, ours), *_figures(size.count, bare), _ratio(bare, ours))
            table.rows.append((form, *figures, f"{_peak_mb(few):.0f}", f"{_peak_mb(many):.0f}"))
            many.unlink()
    return [table]


def _figures(lines: int, spent: Sequence[tuple[float, float]]) -> tuple[str, str]:
    seconds, cpu_s = zip(*spent, strict=True)
    return rate(lines, seconds), f"{1e6 * middle(cpu_s) / lines:.1f}"


def _ratio(bare: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]]) -> str:
    return beside([seconds for seconds, _ in bare], [seconds for seconds, _ in ours])


def _batch_lines(folder: Path, lines: int) -> Path:
    path = folder / f"batch{lines}.jsonl"
    write_lines(path, lines)
    return path


def _prompts(folder: Path, lines: int) -> Path:
    path = folder / f"prompts{lines}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f'{{"prompt": "Question {i}: what is {i} plus {i * 7 % 1000}?"}}\n' for i in range(lines))
    return path


def _table(folder: Path, lines: int) -> Path:
    path = folder / f"rows{lines}.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,a,b,topic\n")
        file.writelines(f'{i},{i},{i * 7 % 1000},"sums, small"\n' for i in range(lines))
    return path


def _spent(path: Path) -> tuple[float, float]:
    """Return the seconds that an import of *path* takes, on the clock and of the processor."""
    store = path.with_suffix(".db")
    template = _PROMPT if path.suffix == ".csv" else None
    source = Source(path, Defaults(MODEL, 1024), Template(template) if template else None, template)
    started, cpu = time.perf_counter(), time.process_time()
    with owning(store) as conn:
        load(conn, source, on_change=None, clock=SystemClock(), watcher=Watcher())
    took = time.perf_counter() - started, time.process_time() - cpu
    store.unlink()
    return took


def _peak_mb(path: Path) -> float:
    """Return the peak memory of a process of its own that imports *path*."""
    done = subprocess.run([sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _spent(Path(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        benchmark(__doc__, measure, short=50_000, long=300_000)
