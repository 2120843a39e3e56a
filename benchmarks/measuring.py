"""What the benchmarks share: their options, medians, tables, and what machine it was."""

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: The load of the other processes at the start: figures taken beside much of it say less.
_BUSY = 1.0


@dataclass(slots=True)
class Table:
    """One table of figures."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)  #: Texts, and numbers as they are to be shown.
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the table in Markdown."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in (self.head, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.head))]
        padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
        rule = ["-" * width for width in widths]
        body = [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]
        return [self.title, "", *body, *([""] if self.notes else []), *self.notes]


@dataclass(frozen=True, slots=True)
class Size:
    """How much a benchmark is to do."""

    count: int  #: Lines, rows or requests.
    rounds: int  #: The medians are of so many.
    is_short: bool


def machine() -> dict[str, Any]:
    """Return what the figures were taken on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("batchrunner", "anthropic", "aiohttp")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def benchmark(doc: str | None, measure: Callable[[Size], Sequence[Table]], *, short: int, long: int) -> None:
    """Be the command of a benchmark: measure, then print its tables or, with `--json`, one object.

    *short* and *long*: how many lines, rows or requests are meant with and without `--short`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", help=f"how many [default: {long:,}]")
    parser.add_argument("--short", action="store_true", help=f"{short:,} of them, one round: seconds")
    parser.add_argument("--rounds", type=int, help="the medians are of so many [default: 3]")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    given = parser.parse_args()
    count = given.count or (short if given.short else long)
    surroundings = machine()
    tables = measure(Size(count, given.rounds or (1 if given.short else 3), given.short))
    surroundings["load_after"] = os.getloadavg()[0]
    if given.json:
        print(json.dumps({"machine": surroundings, "tables": [asdict(table) for table in tables]}, indent=2))
        return
    for table in tables:
        print(*table.lines(), "", sep="\n")
    if surroundings["load"] > _BUSY:
        print(f"load {surroundings['load']:.1f} at the start: other work ran beside this", file=sys.stderr)


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def rate(count: int, seconds: Sequence[float]) -> str:
    """Return how many a second, by the median of *seconds*."""
    return f"{count / middle(seconds):,.0f}"


def beside(yardstick: Sequence[float], seconds: Sequence[float]) -> str:
    """Return the median of the ratios of each round: above 1 is faster than the yardstick."""
    return f"{middle([bare / ours for bare, ours in zip(yardstick, seconds, strict=True)]):.2f}"
