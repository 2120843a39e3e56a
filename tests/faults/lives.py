"""Runs as processes that acknowledge what they saved, and can be killed at any instant with all their children."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import KEY, MODEL

TESTS = Path(__file__).parent.parent
#: This checkout, whatever else is installed.
PYTHONPATH = f"{TESTS}{os.pathsep}{TESTS.parent}"


class Life:
    """One run as a process: from its start to its end or its death."""

    def __init__(self, nursery: "subprocess.Popen[bytes]", pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self.code: int | None = None  #: Exit code; negative: the signal that it died of; None: it lives.

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, for so long at most, and return whether it came."""
        if self.code is None:
            assert self._nursery.stdout is not None
            ready, _, _ = select.select([self._nursery.stdout], [], [], seconds)
            if ready:
                self.code = os.waitstatus_to_exitcode(int(self._nursery.stdout.readline()))
        return self.code is not None

    def kill(self) -> bool:
        """Kill it and all its children with SIGKILL; False: it had come to its end before."""
        if self.code is None:
            for kill in (os.killpg, os.kill):  # in its first instants it has no group of its own yet
                with contextlib.suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)
            assert self.ends_within(30), "a killed process did not end"
        return self.code == -signal.SIGKILL

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def finish(self, timeout_s: float = 120) -> int:
        """Wait for its end and return its exit code; negative: the signal that it died of."""
        if not self.ends_within(timeout_s):
            self.kill()
            raise AssertionError(f"the run did not end within {timeout_s} s")
        assert self.code is not None
        return self.code


@dataclass
class Place:
    """A run's directory with its job file, and beside it the directory of everything that was captured."""

    job: Path
    out: Path  #: Captured output: not below the run's directory.

    @property
    def store(self) -> Path:
        return self.job.with_suffix(".db")

    @property
    def stdout(self) -> Path:
        """What the lives acknowledged."""
        return self.out / "saved.txt"

    @property
    def stderr(self) -> Path:
        return self.out / "said.txt"

    @property
    def outputs(self) -> list[Path]:
        """Every file of captured output."""
        return [path for path in (self.stdout, self.stderr) if path.exists()]

    def saved(self) -> dict[str, str]:
        """Return what was acknowledged as saved so far: custom_id -> status. A torn last line was no acknowledgement."""
        if not self.stdout.exists():
            return {}
        *lines, _ = self.stdout.read_text(encoding="utf-8").split("\n")
        return dict(line.split(" ") for line in lines)


def place(folder: Path, prompts: int | list[str]) -> Place:
    """Make a job in *folder*: so many requests `r0`, `r1`, ..., each with a prompt of its own, or these prompts."""
    texts = [f"Question {i}" for i in range(prompts)] if isinstance(prompts, int) else prompts
    out, job = folder / "out", folder / "run" / "jobs.jsonl"
    for path in (out, job.parent):
        path.mkdir(parents=True)
    with job.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": f"r{i}", "prompt": text}) + "\n" for i, text in enumerate(texts))
    return Place(job, out)


class Nursery:
    """Starts runs, one at a time. See `faults.nursery`."""

    def __init__(self, **given: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
        env |= {"ANTHROPIC_API_KEY": KEY, "PYTHONPATH": PYTHONPATH} | given
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.nursery"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._life: Life | None = None

    def run(
        self, where: Place, url: str, *, env: dict[str, str] | None = None, memory: int | None = None, **options: Any
    ) -> Life:
        """Start a run of *where*'s job against *url*; *memory*: so many bytes may it use beyond what it begins with; *options*: further keywords of `batchrunner.stream`."""
        assert self._life is None or self._life.code is not None, "the last run has not ended"
        asked = {"requests": where.job.name, "model": MODEL, "base_url": url, **options}
        order = {"asked": asked, "folder": str(where.job.parent), "env": env or {}, "memory": memory}
        order |= {"stdout": str(where.stdout), "stderr": str(where.stderr)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        self._life = Life(self._process, int(self._process.stdout.readline()))
        return self._life

    def close(self) -> None:
        """End it, and what it has started."""
        if self._life is not None and self._life.code is None:
            self._life.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(20)


@contextlib.contextmanager
def nursery(**env: str) -> Iterator[Nursery]:
    """Open a nursery for the length of the block, with *env* beside the environment."""
    opened = Nursery(**env)
    try:
        yield opened
    finally:
        opened.close()
