"""A store of ten million lines: import to the very end, memory, the first request, and whether the end is as quick as the beginning.

python benchmarks/full_store.py [LINES] [--short] [--json]     10,000,000 lines; some 15 GB below $TMPDIR, ten minutes

The real runner works in a process of its own, whose memory is sampled from outside. The lines are made while they are
read, and are never all in memory or on a disk. The first requests go over the wire, to a server that answers at once.
Then a stretch of requests is settled at the beginning, in the middle and at the end of the queue: runner, queue, lane,
limiter, dispatcher, engine, writer and store are real and every commit is flushed; only the way to the API ends before
the sockets. What lies between the stretches is declared answered by a few SQL statements, so that the tables are as
large as they would be. The import's yardstick is bare sqlite3 with a million lines: `json.loads`, and the same rows into
the same tables with the same indexes.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bare import bare_import
from listening import Listening
from measuring import Size, Table, benchmark, middle
from memory import Sample, Watched, between, peak, slope
from stores import finish, generated, owning
from stretches import Stretch, over_the_wire, without_wire

_FEW = 10_000
_FIRST = 1_000
_PATIENCE_S = 60.0
_PLACES = ("beginning", "middle", "end")
_NEXT = """SELECT min(seq) FROM requests INDEXED BY requests_fresh
    WHERE state = 'pending' AND not_before IS NULL AND line IS NOT NULL AND model_class = 'haiku-4-5'"""


@dataclass(frozen=True, slots=True)
class Observed:
    """One store from its import on. Instants are those of the monotonic clock."""

    count: int
    began_at: float
    first_at: float  #: The first request reached the endpoint.
    imported: Stretch
    stretches: Sequence[Stretch]
    samples: Sequence[Sample]  #: Of the memory, all the while.

    @property
    def import_s(self) -> float:
        """What the import took, indexes and all."""
        return self.imported.loaded_at - self.began_at

    @property
    def reading(self) -> Sequence[Sample]:
        """The memory during the import, without its first tenth."""
        return between(self.samples, self.began_at + self.import_s / 10, self.imported.loaded_at)


def measure(size: Size) -> Sequence[Table]:
    """Observe a few lines and many; one round, whatever was asked for."""
    few, many = _observed(_FEW, 1_000), _observed(size.count, 2_000 if size.is_short else 20_000)
    few_lines = min(size.count, 1_000_000)
    bare = few_lines / bare_import(few_lines)[0]
    both = (few, many)
    imported = Table(
        f"{many.count:,} lines taken in, then sent",
        ("figure", f"{_FEW:,} lines", f"{many.count:,} lines"),
        [
            ("import to the end, lines/s", *(f"{one.count / one.import_s:,.0f}" for one in both)),
            ("for each second of processor", *(f"{one.count / one.imported.loaded_cpu_s:,.0f}" for one in both)),
            ("beside bare sqlite3", "", f"{many.count / many.import_s / bare:.2f}"),
            ("first request after the import, s", *(f"{one.first_at - one.imported.loaded_at:.2f}" for one in both)),
            ("most memory during the import, MB", *(f"{peak(one.reading):.0f}" for one in both)),
            ("its slope, MB a minute", "", f"{60 * slope(many.reading):+.2f}"),
            ("most memory at all, MB", *(f"{peak(one.samples):.0f}" for one in both)),
        ],
    )  # fmt: skip
    places = Table(
        f"requests settled in the store of {many.count:,}",
        (
            "where",
            "requests",
            "settled/s",
            "CPU ms each",
            "claim of 500, ms (most)",
            "change written, us",
            "commit, ms",
            "memory at most, MB",
        ),
        [_row(place, one, many) for place, one in zip(_PLACES, many.stretches, strict=True)],
        [
            "Two changes a request: its start; and its end with answer, state and totals. Claims and commits are medians.",
            "The strict window remembers a minute of sends, some 40 bytes each.",
        ],
    )
    return [imported, places]


def _row(place: str, one: Stretch, observed: Observed) -> Sequence[object]:
    claims = [1000 * seconds for seconds in one.claims_s]
    return (
        place,
        f"{one.requests:,}",
        f"{one.requests / one.seconds:,.0f}",
        f"{1000 * one.cpu_s / one.requests:.2f}",
        f"{middle(claims):.1f} ({max(claims):.1f})",
        f"{1e6 * sum(one.commits_s) / one.changes:.0f}",
        f"{1000 * middle(one.commits_s):.1f}",
        f"{peak(between(observed.samples, one.began_at, one.ended_at)):.0f}",
    )


def _observed(count: int, requests: int) -> Observed:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, Listening.begun() as endpoint:
        process = context.Process(
            target=_work, args=(theirs, Path(folder, "jobs.db"), count, requests, endpoint.url), daemon=True
        )
        process.start()
        theirs.close()
        if process.pid is None:
            raise RuntimeError("the process has no id")
        try:
            with Watched(process.pid) as watched:
                began_at, imported = ours.recv()
                stretches = [ours.recv() for _ in _PLACES]
                process.join(_PATIENCE_S)
        finally:
            process.kill()
        if endpoint.first_at is None:
            raise RuntimeError("nothing was sent")
        return Observed(count, began_at, endpoint.first_at, imported, stretches, watched.samples)


def _work(pipe: Connection, store: Path, count: int, requests: int, url: str) -> None:
    """Take *count* lines in and settle stretches of them, the one in the middle five times as long."""
    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-api03-benchmark"
    began_at = time.monotonic()
    pipe.send((began_at, over_the_wire(store, generated(count), url, _FIRST)))
    pipe.send(without_wire(store, requests))
    _answer_up_to(store, count // 2)
    pipe.send(without_wire(store, min(5 * requests, count // 4)))
    _answer_up_to(store, count - requests)
    pipe.send(without_wire(store, requests))


def _answer_up_to(store: Path, last: int) -> None:
    with owning(store) as conn:
        finish(conn, conn.execute(_NEXT).fetchone()[0], last)


if __name__ == "__main__":
    benchmark(__doc__, measure, short=100_000, long=10_000_000)
