"""The memory of a process while it works, sampled from outside; Linux only, since it reads /proc."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class Sample(NamedTuple):
    """What a process held at an instant."""

    at: float  #: Seconds of the monotonic clock.
    mb: float  #: Resident memory.


class Watched:
    """Samples the memory of the process *pid* as long as the block lasts, and of no process that has ended."""

    def __init__(self, pid: int, every_s: float = 0.1) -> None:
        self.samples: list[Sample] = []
        self._statm = Path(f"/proc/{pid}/statm")
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                resident = int(self._statm.read_text().split()[1])
            except (OSError, IndexError):
                return
            if resident:
                self.samples.append(Sample(time.monotonic(), resident * _PAGE_MB))


def between(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """Return the samples from *start* to *end*, instants of the monotonic clock."""
    return [sample for sample in samples if start <= sample.at <= end]


def slope(samples: Sequence[Sample]) -> float:
    """Return by how much the memory grows, in MB per second: the least squares' line through the samples."""
    if len(samples) < 2:
        return 0.0
    mid_at = sum(sample.at for sample in samples) / len(samples)
    mid_mb = sum(sample.mb for sample in samples) / len(samples)
    over = sum((sample.at - mid_at) * (sample.mb - mid_mb) for sample in samples)
    return over / sum((sample.at - mid_at) ** 2 for sample in samples)


def peak(samples: Sequence[Sample]) -> float:
    """Return the most that any sample held, in MB."""
    return max((sample.mb for sample in samples), default=0.0)
