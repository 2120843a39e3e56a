"""Commands as one types them: how long each takes, what it costs the processor, and what memory it holds meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory import Sample, Watched

BATCHRUNNER = (sys.executable, "-m", "batchrunner")
PYTHON = (sys.executable, "-c")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took."""

    seconds: float
    cpu_s: float
    samples: Sequence[Sample]  #: Of its memory.
    output: str  #: Standard output.


def spent(
    command: Sequence[str], *, expect: Sequence[int] = (0,), environment: Mapping[str, str] | None = None
) -> Spent:
    """Run *command* to its end; its exit code must be one of *expect*. One at a time."""
    before, began = _children_cpu_s(), time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        with Watched(process.pid, 0.05) as watched:
            output, complaints = process.communicate()
        seconds = time.perf_counter() - began
    assert process.returncode in expect, complaints
    return Spent(seconds, _children_cpu_s() - before, watched.samples, output)


def _children_cpu_s() -> float:
    """Return the processor time of all processes started here that have ended."""
    now = os.times()
    return now.children_user + now.children_system
