"""Ids of a whole job file, however long: they wait in a temporary database on disk, not in memory."""

import re
import sqlite3
from types import TracebackType
from typing import Self

from batchrunner.jobfile import derived_id
from batchrunner.model import Request
from batchrunner.preflight.findings import Findings, error, note, warning

_CHUNK = 5000
_BATCHES_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_KEPT = 3

_TWICE = """SELECT count(*) AS times, min(line) AS line, count(DISTINCT content) AS contents, derived
    FROM seen GROUP BY id HAVING count(*) > 1 ORDER BY min(line)"""
# Of each content the lines with another id than the first.
_ALIKE = """SELECT count(DISTINCT id) - 1 AS more, max(line) AS line
    FROM seen GROUP BY content HAVING count(DISTINCT id) > 1 ORDER BY max(line)"""


class Ids:
    """`with Ids() as ids:` takes requests and says at the end which ids stand twice."""

    def __enter__(self) -> Self:
        # An empty name: SQLite keeps it in memory as long as it is small, then in a file that nobody else sees.
        self._conn = sqlite3.connect("", isolation_level=None)
        self._conn.execute("PRAGMA synchronous = OFF")
        self._conn.execute("PRAGMA journal_mode = OFF")
        self._conn.execute("CREATE TABLE seen (id TEXT, line INT, content TEXT, derived INT)")
        self._waiting: list[tuple[str, int, str, bool]] = []
        self._unfit = 0
        self._unfit_lines: list[int] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._conn.close()

    def add(self, request: Request) -> None:
        """Take the id of *request*."""
        derived = request.custom_id == derived_id(request.line_hash)
        self._waiting.append((request.custom_id, request.line, request.params_hash, derived))
        if len(self._waiting) >= _CHUNK:
            self._flush()
        if not _BATCHES_ID.fullmatch(request.custom_id):
            self._unfit += 1
            if len(self._unfit_lines) < _KEPT:
                self._unfit_lines.append(request.line)

    def report(self, findings: Findings) -> None:
        """Add what is to be said of the ids."""
        self._flush()
        self._report_twice(findings)
        self._report_alike(findings)
        if self._unfit:
            findings.add_many(
                note(
                    "id-not-for-batches",
                    "ids that the Message Batches API would not take (1 to 64 of a-z, A-Z, 0-9, _ and -)",
                    "a run takes any id, by batches too: it has ids of its own there",
                ),
                self._unfit,
                self._unfit_lines,
            )

    def _report_twice(self, findings: Findings) -> None:
        counts = {"changed": 0, "same": 0, "identical": 0}
        lines: dict[str, list[int]] = {name: [] for name in counts}
        for times, line, contents, derived in self._conn.execute(_TWICE):
            name = "identical" if derived else "changed" if contents > 1 else "same"
            counts[name] += times - (0 if name == "changed" else 1)
            if len(lines[name]) < _KEPT:
                lines[name].append(line)
        faults = {
            "changed": error("id-twice", "the same id with different content", "give each request an id of its own"),
            "same": note(
                "id-repeated", "lines that repeat the id and the content of an earlier one", "each counts once"
            ),
            "identical": warning(
                "identical-lines",
                "lines without an id that repeat an earlier one",
                "each is sent and paid for, unless --dedupe",
            ),
        }
        for name, fault in faults.items():
            if counts[name]:
                findings.add_many(fault, counts[name], lines[name])

    def _report_alike(self, findings: Findings) -> None:
        count, lines = 0, list[int]()
        for more, line in self._conn.execute(_ALIKE):
            count += more
            if len(lines) < _KEPT:
                lines.append(line)
        if count:
            what = "requests that are identical to another one but for id and metadata"
            findings.add_many(note("identical-requests", what, "--dedupe sends such requests once"), count, lines)

    def _flush(self) -> None:
        self._conn.execute("BEGIN")
        self._conn.executemany("INSERT INTO seen VALUES (?, ?, ?, ?)", self._waiting)
        self._conn.execute("COMMIT")
        self._waiting.clear()
