"""Reading a job file into the store: whole and checked before anything is sent, skipped when nothing has changed."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from batchrunner.attachments import Folder
from batchrunner.clock import Clock, stamp
from batchrunner.errors import InputError, UsageError
from batchrunner.jobfile import (
    NO_MODEL,
    STDIN,
    Defaults,
    Fingerprint,
    Format,
    LineError,
    LineReader,
    Shaper,
    Surrogates,
    Template,
    open_lines,
    patterns_of,
)
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

    path: Path  #: `-`: the standard input, which must be read anew each time.
    defaults: Defaults
    template: Template | None = None
    template_text: str | None = None  #: As the user typed it.
    surrogates: Surrogates = "refuse"
    simulated: bool = False
    label: str | None = None  #: What the input is called where its path says nothing.
    form: Format | None = None  #: None: as the suffix tells.
    files: Path | None = None  #: The directory below which lines may name images and PDFs.
    skip_invalid: bool = False  #: Bad lines become failed requests instead of stopping the run.

    @property
    def is_stdin(self) -> bool:
        """Whether the lines come from the standard input."""
        return str(self.path) == STDIN

    @property
    def format(self) -> Format:
        """How the bytes are read."""
        return self.form or Format.of(self.path.name)

    @property
    def name(self) -> str:
        """What messages call the input."""
        return "the standard input" if self.is_stdin else str(self.path)

    @property
    def guessed(self) -> str | None:
        """What to say of the format, if nothing told it."""
        if self.form or self.label or (Format.told(self.path.name) and not self.is_stdin):
            return None
        return f"{self.name} was read as JSON lines; --format csv, tsv or txt reads it otherwise."

    def shaper(self) -> Shaper:
        """Return what makes requests of the lines; raises `UsageError` for a default that is no template."""
        if self.files is not None and not self.files.is_dir():
            raise UsageError(f"--allow-files {self.files}: there is no such directory.")
        folder = None if self.files is None else Folder(self.files)
        return Shaper(self.defaults, self.template, surrogates=self.surrogates, files=folder)

    def lines(self) -> LineReader:
        """Return the lines, not yet read."""
        fields = None
        if self.template is not None:
            fields = [*self.template.needed, *(n for p in patterns_of(self.defaults).values() for n in p.needed)]
        source: Any = self.path
        if self.is_stdin:
            if sys.stdin.isatty():
                raise UsageError("- reads the standard input, which is a terminal: pipe the lines in, or name a file.")
            source = sys.stdin.buffer
        return open_lines(source, self.format, self.name, fields)

    def shaping(self) -> str:
        """Return what, beside its bytes, decides how the file's lines become requests: JSON text, compared as it is."""
        d = self.defaults
        shape: dict[str, Any] = {
            "model": d.model,
            "max_tokens": d.max_tokens,
            "system": d.system,
            "extra": dict(d.extra),
            "prompt": self.template_text,
            "surrogates": self.surrogates,
        }
        if self.format is not Format.JSONL:
            shape["format"] = self.format
        if self.files is not None:
            shape["allow_files"] = str(self.files.resolve())
        if self.skip_invalid:
            shape["skip_invalid"] = True
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
    skip_invalid: bool = False
    bad: int = 0
    without_model: int = 0  #: Of these.
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
                if self.skip_invalid:
                    yield self.shaper.unsendable(line, error)
                else:
                    self._note(error)
                continue
            if not self.bad:
                yield request

    def check(self, path: Path | str, guessed: str | None = None) -> None:
        """Raise `InputError` if there were bad lines. *guessed*: what to say of the format if all of them are bad."""
        if not self.bad:
            return
        if self.without_model == self.count > 1:  # no mistake of the lines, and not to be told of each
            raise InputError(f"{path}: {NO_MODEL}; none of the {self.count:,} lines has one. Nothing was sent.")
        plural = "line" if self.bad == 1 else "lines"
        more = f"\n  ... and {self.bad - len(self.shown):,} more" if self.bad > len(self.shown) else ""
        shown = "\n  ".join(self.shown)
        hint = f"\n{guessed}" if guessed and self.bad == self.count else ""
        raise InputError(
            f"{path}: {self.bad:,} bad {plural} of {self.count:,}; nothing was sent. Mend them, or give "
            f"--skip-invalid to record them as failed and send the others.\n  {shown}{more}{hint}"
        )

    def _note(self, error: LineError) -> None:
        self.bad += 1
        self.without_model += error.cause == NO_MODEL
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
    total = source.path.stat().st_size if source.path.exists() and not source.is_stdin else 0
    reader = source.lines()
    lines = _Lines(source.shaper(), source.skip_invalid)

    def look_up() -> None:
        watcher.check()
        watcher.progress(reader.bytes_read, total)

    incoming = begin_import(conn, on_change=on_change)
    try:
        requests = lines.requests(reader, look_up)
        while chunk := list(islice(requests, CHUNK)):
            incoming.add(chunk)
            look_up()
        lines.check(source.label or source.name, source.guessed)
        watcher.check()  # an interrupt ends a pipe too, which then looks like its end
        return incoming.complete(_job(source, reader.fingerprint, clock))
    except BaseException:
        incoming.abandon()
        raise


def _unchanged(conn: sqlite3.Connection, source: Source) -> bool:
    if source.is_stdin or source.files is not None:  # it can be read only once; the files may have changed
        return False
    row = conn.execute("SELECT input_bytes, input_sha256, defaults, import_completed_at FROM job").fetchone()
    if row is None or row[3] is None or row[2] != source.shaping():
        return False
    if not source.path.is_file() or source.path.stat().st_size != row[0]:
        return False
    return bool(fingerprint(source.path).sha256 == row[1])


def allowed_files(conn: sqlite3.Connection) -> Path | None:
    """Return the directory below which the job's lines may name files (`--allow-files`), as its store knows it."""
    (defaults,) = conn.execute("SELECT defaults FROM job").fetchone()
    folder = json.loads(defaults).get("allow_files")
    return None if folder is None else Path(folder)


def _same_job(conn: sqlite3.Connection, source: Source, on_change: str | None) -> None:
    """Refuse another job file in a store that has answers: `jobs.csv` and `jobs.jsonl` would share `jobs.db`."""
    row = conn.execute("SELECT input_path FROM job WHERE succeeded > 0").fetchone()
    if row is None or on_change is not None or Path(row[0]).name == Path(_input_name(source)).name:
        return
    (store,) = (path for _, name, path in conn.execute("PRAGMA database_list") if name == "main")
    raise InputError(
        f"The store {store} holds the answers of {row[0]}, not of {_input_name(source)}. Give the new job file a store of its own with "
        "--db, or --on-change keep if it is the same job under a new name."
    )


def _input_name(source: Source) -> str:
    return source.label or (STDIN if source.is_stdin else str(source.path.absolute()))


def fingerprint(path: Path) -> Fingerprint:
    """Return size and hash of the file at *path*; raises `InputError` if it cannot be read."""
    from batchrunner.jobfile.source import Source as Bytes

    source = Bytes(path)
    for _ in source.blocks():
        pass
    return source.fingerprint


def _job(source: Source, read: Fingerprint, clock: Clock) -> dict[str, Any]:
    return {
        "input_path": _input_name(source),
        "input_bytes": read.size,
        "input_sha256": read.sha256,
        "defaults": source.shaping(),
        "simulated": source.simulated,
        "at": stamp(clock.utc_now()),
    }
