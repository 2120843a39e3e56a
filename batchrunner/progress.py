"""What a run shows while it works: a bar on a terminal, a line every 30 s elsewhere, JSON lines for machines."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from batchrunner.screen import visible


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands. The first three speak of the whole job, the rest of this run."""

    requests: int
    succeeded: int
    failed: int
    in_flight: int
    retrying: int  #: Put back and waiting for their time.
    sent: int
    retries: int
    input_tokens: int
    output_tokens: int
    held_by: str | None = None  #: What holds the run back at the moment, in words.
    paused: bool = False  #: Nothing new is sent until the user says so.
    batches: int = 0  #: Batches that are with the API; their rows are in flight.

    @property
    def done(self) -> int:
        """Requests that are final."""
        return self.succeeded + self.failed


class Reporter(Protocol):
    """Shows a run to whoever watches. Everything goes to stderr; data has stdout to itself."""

    interval_s: float  #: How often `tick` wants to be called.

    def note(self, text: str) -> None:
        """Show a sentence."""
        ...

    def loading(self, done: int, total: int) -> None:
        """So many bytes of the job file are read, of so many."""
        ...

    def start(self, snapshot: Snapshot) -> None:
        """Dispatching begins."""
        ...

    def tick(self, snapshot: Snapshot) -> None:
        """Time has passed."""
        ...

    def stop(self) -> None:
        """Dispatching is over."""
        ...


class SafeStream:
    """A text stream that outlives its reader: a closed terminal or pipe must not stop a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
            self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The stream's file descriptor; tqdm asks it for the width of the terminal."""
        return self._stream.fileno()


class Silent:
    """Shows nothing but notes."""

    interval_s = 60.0

    def __init__(self, stream: TextIO | None = None, *, notes: bool = True) -> None:
        self.stream = SafeStream(stream or sys.stderr)
        self._notes = notes

    def note(self, text: str) -> None:
        """Show a sentence."""
        if self._notes:
            self.stream.write(visible(text, keep_lines=True) + "\n")
            self.stream.flush()

    def loading(self, done: int, total: int) -> None:
        """Show nothing."""

    def start(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def tick(self, snapshot: Snapshot) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""


class PlainLines(Silent):
    """A `key=value` line now and then, for logs."""

    every_s = 30.0
    interval_s = 0.5

    def __init__(self, stream: TextIO | None = None, *, every_s: float | None = None) -> None:
        super().__init__(stream)
        if every_s is not None:
            self.every_s = every_s
        self._started = self._shown = self._loading = time.monotonic()
        self._first = self._last = 0

    def loading(self, done: int, total: int) -> None:
        """Say how far reading is, if it takes long."""
        if time.monotonic() - self._loading >= self.every_s:
            self._loading = time.monotonic()
            self.emit({"event": "loading", "bytes": done, "total": total})

    def start(self, snapshot: Snapshot) -> None:
        """Begin counting."""
        self._started = self._shown = time.monotonic()
        self._first = self._last = snapshot.done

    def tick(self, snapshot: Snapshot) -> None:
        """Show a line if it is time."""
        now = time.monotonic()
        if now - self._shown < self.every_s:
            return
        rate = (snapshot.done - self._last) / (now - self._shown)
        self._shown, self._last = now, snapshot.done
        left = snapshot.requests - snapshot.done
        eta_s = round(left / rate) if rate > 0 else None
        fields = asdict(snapshot) | {
            "rate_per_s": round(rate, 2),
            "eta_s": eta_s,
            "elapsed_s": round(now - self._started),
        }
        self.emit({"event": "progress", **fields})

    def emit(self, fields: dict[str, Any]) -> None:
        """Show *fields* in one line."""
        self.note(" ".join(f"{key}={_word(value)}" for key, value in fields.items()))


def _word(value: Any) -> str:
    words: dict[Any, str] = {None: "-", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(char.isspace() or char in '"=' for char in text) else text


class JsonLines(PlainLines):
    """One JSON object a line, notes included, for machines."""

    every_s = 5.0

    def note(self, text: str) -> None:
        """Show a sentence as an event."""
        self.emit({"event": "note", "text": text})

    def emit(self, fields: dict[str, Any]) -> None:
        """Show *fields* as JSON."""
        self.stream.write(json.dumps(fields) + "\n")
        self.stream.flush()


class Bar(Silent):
    """A tqdm bar."""

    interval_s = 0.2

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread of its own: we tick
        self._tqdm = tqdm
        self._bar: Any = None

    def note(self, text: str) -> None:
        """Show a sentence above the bar."""
        if self._bar is None:
            super().note(text)
        else:
            self._tqdm.write(visible(text, keep_lines=True), file=self.stream)

    def loading(self, done: int, total: int) -> None:
        """Show how far reading is."""
        if self._bar is None:
            self._bar = self._new(total=total, desc="reading", unit="B", unit_scale=True)
        self._bar.update(done - self._bar.n)

    def start(self, snapshot: Snapshot) -> None:
        """Begin the bar where earlier runs left off."""
        self.stop()
        self._bar = self._new(
            total=snapshot.requests, initial=snapshot.done, desc="requests", unit="req", smoothing=0.1
        )
        self.tick(snapshot)

    def tick(self, snapshot: Snapshot) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        extras = ["paused"] if snapshot.paused else []
        in_batches = f" in {snapshot.batches:,} batch{'es' if snapshot.batches > 1 else ''}" if snapshot.batches else ""
        extras += [f"in flight {snapshot.in_flight:,}{in_batches}"]
        extras += [f"retrying {snapshot.retrying:,}"] if snapshot.retrying else []
        extras += [f"failed {snapshot.failed:,}"] if snapshot.failed else []
        extras += [f"limit: {snapshot.held_by}"] if snapshot.held_by else []
        self._bar.set_postfix_str(", ".join(extras), refresh=False)
        self._bar.update(snapshot.done - self._bar.n)
        self._bar.refresh()

    def stop(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _new(self, **options: Any) -> Any:
        return self._tqdm(
            file=self.stream, dynamic_ncols=True, mininterval=0.1, leave=options["desc"] == "requests", **options
        )


class NotebookBar(Bar):
    """A bar as IPython shows it: a widget in a notebook, text in a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        from tqdm.auto import tqdm

        self._tqdm = tqdm


def _in_ipython() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and shell() is not None


def reporter(kind: str, stream: TextIO | None = None) -> Reporter:
    """Return the reporter for `--progress` *kind*: auto, bar, plain, json or none."""
    if kind == "auto":
        kind = "bar" if SafeStream(stream or sys.stderr).isatty() else "plain"
        kind = "notebook" if _in_ipython() else kind
    kinds: dict[str, Callable[[TextIO | None], Reporter]] = {
        "bar": Bar,
        "notebook": NotebookBar,
        "plain": PlainLines,
        "json": JsonLines,
        "none": Silent,
    }
    return kinds[kind](stream)
