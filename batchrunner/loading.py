"""Reading a job file into the store: whole and checked before anything is sent, skipped when nothing has changed."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from batchrunner.clock import Clock, stamp
from batchrunner.errors import InputError
from batchrunner.jobfile import Defaults, Fingerprint, LineError, LineReader, Shaper, Surrogates, Template, read_lines
from batchrunner.model import Request
from batchrunner.store.imports import CHUNK, begin_import
from batchrunner.store.repeats import Imported

#: Bad lines shown; all are counted.
SHOWN = 20


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The user wants to stop; the import was abandoned."""


@dataclass(frozen=True, slots=True)
class Source:
    """A job file and how its lines become requests."""

    path: Path
    defaults: Defaults
    template: Template | None = None
    template_text: str | None = None  #: As the user typed it.
    surrogates: Surrogates = "refuse"
    simulated: bool = False

    def shaping(self) -> str:
        """Return what, beside its bytes, decides how the file's lines become requests: JSON text, compared as it is."""
        d = self.defaults
        shape = {
            "model": d.model,
            "max_tokens": d.max_tokens,
            "system": d.system,
            "extra": dict(d.extra),
            "prompt": self.template_text,
            "surrogates": self.surrogates,
        }
        return json.dumps(shape, sort_keys=True, ensure_ascii=False)


@dataclass(slots=True)
class Watcher:
    """How a long import shows itself and how it is stopped."""

    progress: Callable[[int, int], None] = lambda _done, _total: None  #: Bytes read, bytes in all.
    stopped: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise `Interrupted` if the user wants to stop."""
        if self.stopped():
            raise Interrupted


@dataclass(slots=True)
class _Lines:
    """Turns lines into requests and keeps count of those that could not be."""

    shaper: Shaper
    bad: int = 0
    shown: list[str] = field(default_factory=list)
    count: int = 0

    def requests(self, reader: LineReader, look_up: Callable[[], None]) -> Iterator[Request]:
        """Yield the requests of the good lines, until the first bad one; then only look for more bad ones.

        From then on nobody else sees how far it has come, so *look_up* is called now and then.
        """
        shape = self.shaper.request
        for line in reader:
            self.count += 1
            if self.bad and not self.count % CHUNK:
                look_up()
            try:
                request = shape(line)
            except LineError as error:
                self._note(error)
                continue
            if not self.bad:
                yield request

    def check(self, path: Path) -> None:
        """Raise `InputError` if there were bad lines."""
        if not self.bad:
            return
        plural = "line" if self.bad == 1 else "lines"
        more = f"\n  ... and {self.bad - len(self.shown):,} more" if self.bad > len(self.shown) else ""
        shown = "\n  ".join(self.shown)
        raise InputError(f"{path}: {self.bad:,} bad {plural} of {self.count:,}; nothing was sent.\n  {shown}{more}")

    def _note(self, error: LineError) -> None:
        self.bad += 1
        if len(self.shown) < SHOWN:
            self.shown.append(str(error))


def load(
    conn: sqlite3.Connection, source: Source, *, on_change: str | None, clock: Clock, watcher: Watcher
) -> Imported | None:
    """Bring the store in line with the job file; None if it is already.

    Raises `InputError` (with all bad lines counted and the first of them shown), `ChangedRequestsError` or
    `Interrupted`; then the store's requests are as they were.
    """
    if _unchanged(conn, source):
        return None
    _same_job(conn, source, on_change)
    total = source.path.stat().st_size if source.path.exists() else 0
    reader = read_lines(source.path)
    lines = _Lines(Shaper(source.defaults, source.template, surrogates=source.surrogates))

    def look_up() -> None:
        watcher.check()
        watcher.progress(reader.bytes_read, total)

    incoming = begin_import(conn, on_change=on_change)
    try:
        requests = lines.requests(reader, look_up)
        while chunk := list(islice(requests, CHUNK)):
            incoming.add(chunk)
            look_up()
        lines.check(source.path)
        return incoming.complete(_job(source, reader.fingerprint, clock))
    except BaseException:
        incoming.abandon()
        raise


def _unchanged(conn: sqlite3.Connection, source: Source) -> bool:
    row = conn.execute("SELECT input_bytes, input_sha256, defaults, import_completed_at FROM job").fetchone()
    if row is None or row[3] is None or row[2] != source.shaping():
        return False
    if not source.path.is_file() or source.path.stat().st_size != row[0]:
        return False
    return bool(fingerprint(source.path).sha256 == row[1])


def _same_job(conn: sqlite3.Connection, source: Source, on_change: str | None) -> None:
    """Refuse another job file in a store that has answers: `jobs.csv` and `jobs.jsonl` would share `jobs.db`."""
    row = conn.execute("SELECT input_path FROM job WHERE succeeded > 0").fetchone()
    if row is None or on_change is not None or Path(row[0]).name == source.path.name:
        return
    raise InputError(
        f"The store holds the answers of {row[0]}, not of {source.path}. Give the new job file a store of its own with "
        "--db, or --on-change keep if it is the same job under a new name."
    )


def fingerprint(path: Path) -> Fingerprint:
    """Return size and hash of the file at *path*; raises `InputError` if it cannot be read."""
    from batchrunner.jobfile.source import Source as Bytes

    source = Bytes(path)
    for _ in source.blocks():
        pass
    return source.fingerprint


def _job(source: Source, read: Fingerprint, clock: Clock) -> dict[str, Any]:
    return {
        "input_path": str(source.path.absolute()),
        "input_bytes": read.size,
        "input_sha256": read.sha256,
        "defaults": source.shaping(),
        "simulated": source.simulated,
        "at": stamp(clock.utc_now()),
    }
