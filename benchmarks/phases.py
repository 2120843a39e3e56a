"""Where the CPU time of a run goes, by phase: a sampler on the main thread, a stop-watch in the writer's."""

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import FrameType
from typing import Any

from batchrunner.store import writer
from batchrunner.store.changes import Settled, Started

_EVERY_S = 0.001
_PACKAGE = "/batchrunner/"
#: Modules of the package -> phase; the innermost frame that is one of them decides.
_PHASES = {
    "dispatch": ("dispatcher", "lane", "engines", "queue", "slots", "runner"),
    "limiter": ("limiter", "flow", "window", "requests", "accounts", "tokens", "estimates", "learned", "ramp"),
    "settle": ("judge", "answers", "halts", "refusals", "budget", "schemas", "retry", "counts", "endings", "failover"),
    "send": ("direct", "wire", "sender", "routes", "classify", "quotas", "deadline", "redact"),
    "commit": ("writer", "changes", "transactions"),
    "progress": ("progress", "holding", "keeping", "report", "minutes"),
}
_PHASE_OF = {module: phase for phase, modules in _PHASES.items() for module in modules}
_PHASE_OF |= dict.fromkeys(("breaker", "concurrency", "reserving", "holdups", "gate", "brake"), "limiter")
#: The dispatcher's functions that belong to the way back.
_WAY_BACK = {"settle", "_settlement", "_finish", "_conclude"}
#: In the order in which a request goes through them.
ORDER = ("dispatch", "limiter", "start row", "send", "settle", "commit", "progress", "event loop")


class Phases:
    """CPU seconds by phase, of everything between `start` and `stop`."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._last = 0.0
        self._known: dict[Any, str | None] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block lasts; main thread only."""
        before = signal.signal(signal.SIGPROF, self._sample)
        restore = [self._timed(Started, "start row"), self._timed(Settled, "commit"), self._timed_commits()]
        self._last = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
            for undo in restore:
                undo()

    def _sample(self, _: int, frame: FrameType | None) -> None:
        """Charge what the main thread has used since the last sample to where it is now."""
        now = time.thread_time()
        self.seconds[self._phase(frame)] += now - self._last
        self._last = now

    def _phase(self, frame: FrameType | None) -> str:
        is_wire = False
        while frame is not None:
            code = frame.f_code
            if code not in self._known:
                self._known[code] = _phase_of(code.co_filename, code.co_name)
            if (phase := self._known[code]) is not None:
                return phase
            is_wire = is_wire or "/aiohttp/" in code.co_filename or code.co_name.startswith("_read_ready")
            frame = frame.f_back
        return "send" if is_wire else "event loop"

    def _timed(self, kind: Any, phase: str) -> Callable[[], None]:
        write = kind.write

        def timed(change: Any, cursor: Any) -> None:
            began = time.thread_time()
            write(change, cursor)
            self.seconds[phase] += time.thread_time() - began

        kind.write = timed
        return lambda: setattr(kind, "write", write)

    def _timed_commits(self) -> Callable[[], None]:
        """Charge what a commit needs beside its rows to `commit`."""
        commit: Any = writer._commit_group

        def timed(conn: Any, group: Any) -> None:
            rows = self.seconds["start row"] + self.seconds["commit"]
            began = time.thread_time()
            commit(conn, group)
            of_rows = self.seconds["start row"] + self.seconds["commit"] - rows
            self.seconds["commit"] += time.thread_time() - began - of_rows

        writer._commit_group = timed
        return lambda: setattr(writer, "_commit_group", commit)


def _phase_of(file: str, function: str) -> str | None:
    if _PACKAGE not in file:
        return None
    module = PurePath(file)
    name = module.stem if module.stem != "__init__" else module.parent.name
    if name == "dispatcher" and function in _WAY_BACK:
        return "settle"
    return _PHASE_OF.get(name) or _PHASE_OF.get(module.parent.name)
