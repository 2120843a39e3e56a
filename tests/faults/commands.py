"""The real command as processes that start quickly: forks of one process that has imported everything heavy once.

Each has a process group of its own, its output in files, and the constants it is told to have: ten minutes of patience
are the same code as two seconds of it.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from faults.invariants import Verdict, check_invariants
from running import KEY, MODEL

_HEAVY = [
    "anthropic",
    "aiohttp",
    "anyio",
    "batchrunner.api.direct",
    "batchrunner.api.sdk",
    "batchrunner.cli.run",
    "batchrunner.runner",
    "batchrunner.simulator.server",
    "sqlite_utils",
    "tqdm",
]
_LOOK_AGAIN_S = 0.01


def _live(
    words: tuple[str, ...], folder: str, files: tuple[str, str], env: Mapping[str, str], constants: Mapping[str, Any]
) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    for fd, name in enumerate(files, 1):
        target = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
        os.dup2(target, fd)
        os.close(target)
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        del os.environ[name]
    os.environ.update(env)
    for name, value in constants.items():
        module, constant = name.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
    from batchrunner.cli import main

    try:
        main(list(words))
    except KeyboardInterrupt:  # before the command was there to take it
        sys.exit(130)


class Command:
    """`batchrunner ...` at work."""

    _context: ClassVar[Any] = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(_HEAVY)

    def __init__(
        self,
        *words: str,
        folder: Path,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        name: str = "said",
        output: str | None = None,
    ) -> None:
        """Start it in *folder*; *name* tells its output files from those of others, outside of that directory.

        *output*: a terminal or a pipe that takes both of its streams instead.
        """
        out = folder.parent / "out"
        out.mkdir(exist_ok=True)
        self.stdout, self.stderr = out / f"{name}.out", out / f"{name}.err"
        given = {"ANTHROPIC_API_KEY": KEY, **({"ANTHROPIC_BASE_URL": url} if url else {}), **(env or {})}
        files = (output or str(self.stdout), output or str(self.stderr))
        self.process = self._context.Process(target=_live, args=(words, str(folder), files, given, constants or {}))
        self.process.start()

    @property
    def pid(self) -> int:
        pid = self.process.pid
        assert isinstance(pid, int)
        return pid

    @property
    def lives(self) -> bool:
        return bool(self.process.is_alive())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def said(self) -> str:
        """What it has written to its standard error so far."""
        return self.stderr.read_text(encoding="utf-8") if self.stderr.exists() else ""

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Return when it has said *text*. Another process's file can only be polled."""
        deadline = time.monotonic() + timeout_s
        while text not in self.said():
            assert time.monotonic() < deadline, f"{text!r} was never said:\n{self.said()}"
            assert self.lives or text in self.said(), f"it ended without saying {text!r}:\n{self.said()}"
            time.sleep(_LOOK_AGAIN_S)

    def finish(self, timeout_s: float = 60) -> int:
        """Wait for its end and return its exit code; negative: the signal that it died of."""
        self.process.join(timeout_s)
        if self.lives:
            self.kill()
            raise AssertionError(f"the command did not end within {timeout_s} s:\n{self.said()}")
        code = self.process.exitcode
        assert isinstance(code, int)
        return code

    def kill(self) -> int:
        """Kill it and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.join(30)
        return int(self.process.exitcode or 0)


class Yard:
    """Where commands of one test live; none outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._all: list[Command] = []

    def start(self, *words: str, **options: Any) -> Command:
        """Start `batchrunner WORDS`; *options* as `Command` takes them."""
        command = Command(*words, **{"folder": self.folder, "name": f"said{len(self._all)}", **options})
        self._all.append(command)
        return command

    def run(self, url: str, *options: str, job: str = "jobs.jsonl", slots: int = 10, **more: Any) -> Command:
        """Start `batchrunner run` on *job* against *url*."""
        words = ("run", job, "--model", MODEL, "-j", str(slots), "--progress", "plain", *options)
        return self.start(*words, url=url, **more)

    @property
    def outputs(self) -> list[Path]:
        """Every file of captured output."""
        return [path for command in self._all for path in (command.stdout, command.stderr) if path.exists()]

    def judged(self, ledger: Path, *, slots: int, kills: int = 0, **more: Any) -> Verdict:
        """Judge what the runs of `jobs.jsonl` have left, by the *ledger* of their simulator; *more* as `check_invariants` takes it."""
        job = self.folder / "jobs.jsonl"
        return check_invariants(job, ledger=ledger, saved={}, kills=kills, slots=slots, outputs=self.outputs, **more)

    def close(self) -> None:
        for command in self._all:
            if command.lives:
                command.kill()
            command.process.close()


@contextlib.contextmanager
def yard(folder: Path) -> Iterator[Yard]:
    """Open a yard in the directory *folder*, for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = Yard(folder)
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Poll until *condition* holds: for what happens in another process and can be seen only from outside."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(_LOOK_AGAIN_S)
