"""Where the CPU time of a run goes, by phase: a sampler on the main thread, a stop-watch in the writer's."""

import signal
import time
from collections import defaultdict
from pathlib import PurePath
from types import FrameType
from typing import Any

from batchrunner.store import writer
from batchrunner.store.changes import Settled, Started

_EVERY_S = 0.001
_PACKAGE = "/batchrunner/"
#: Modules and rooms of the package -> phase; the innermost frame that is in one of them decides.
_PHASES = {
    "dispatch": ("dispatcher", "lane", "engines", "queue", "slots", "runner", "shift", "session"),
    "limiter": ("limiter", "policy"),
    "settle": (
        *("settling", "judge", "answers", "halts", "refusals", "budget", "schemas", "retry", "counts", "endings"),
        *("failover", "bounds", "till", "caps", "purse", "last_start"),
    ),
    "send": ("api",),
    "commit": ("store",),
    "progress": ("progress", "holding", "keeping", "report", "minutes"),
}
_PHASE_OF = {name: phase for phase, names in _PHASES.items() for name in names}
#: The dispatcher's functions that belong to the way back.
_WAY_BACK = {"settle", "_settle", "_let_go"}
#: In the order in which a request goes through them.
ORDER = ("dispatch", "limiter", "start row", "send", "settle", "commit", "progress", "event loop")


class Phases:
    """CPU seconds by phase, of everything between `begin` and `end`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = 0.0
        self._known: dict[Any, str | None] = {}

    def begin(self) -> None:
        """Begin to watch, once and for good; in the main thread, which is the one that is sampled."""
        signal.signal(signal.SIGPROF, self._sample)
        _time_writes(Started, "start row", self.seconds)
        _time_writes(Settled, "commit", self.seconds)
        _time_commits(self.seconds)
        self._last = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def end(self) -> None:
        """Take no more samples."""
        signal.setitimer(signal.ITIMER_PROF, 0)

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


def _time_writes(kind: Any, phase: str, seconds: dict[str, float]) -> None:
    write = kind.write

    def timed(change: Any, cursor: Any) -> None:
        began = time.thread_time()
        write(change, cursor)
        seconds[phase] += time.thread_time() - began

    kind.write = timed


def _time_commits(seconds: dict[str, float]) -> None:
    """Charge what a commit needs beside its rows to `commit`."""
    commit = writer._commit_group  # noqa: SLF001 - there is no other way to see it from outside

    def timed(conn: Any, group: Any) -> None:
        rows = seconds["start row"] + seconds["commit"]
        began = time.thread_time()
        commit(conn, group)
        of_rows = seconds["start row"] + seconds["commit"] - rows
        seconds["commit"] += time.thread_time() - began - of_rows

    writer._commit_group = timed  # noqa: SLF001


def _phase_of(file: str, function: str) -> str | None:
    if _PACKAGE not in file:
        return None
    module = PurePath(file)
    name = module.stem if module.stem != "__init__" else module.parent.name
    if name == "dispatcher" and function in _WAY_BACK:
        return "settle"
    return _PHASE_OF.get(name) or _PHASE_OF.get(module.parent.name)
