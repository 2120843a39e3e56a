"""Answers that the store could not take: kept in a file elsewhere until it can.

`Rescue` writes the file for the run that gave its store up; `store/adoption.py` brings it home. JSON lines, readable by
their owner only: a header that names the run, then what it wanted to write.
"""

import contextlib
import glob
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrunner.errors import StoreError
from batchrunner.outfile import sync_directory
from batchrunner.store.changes import Settled
from batchrunner.store.files import beside
from batchrunner.store.records import Kept, record_of
from batchrunner.store.spending import PriceKept

SUFFIX = ".rescue.jsonl"
#: What a header says it is, and of which form the lines are.
KIND, VERSION = "batchrunner rescue", 1
#: Where temporary files outlast a restart.
LASTING = Path("/var/tmp")  # noqa: S108 - mode 0600, under names that nobody foresees


class Rescue:
    """The rescue file of one run; it appears when there is something to keep."""

    def __init__(self, store: Path, run: Mapping[str, Any]) -> None:
        """*run* has id, host, pid and started_at as the store's table of runs has them: they tell its file from others."""
        self.paths: list[Path] = []  #: Where answers are; more than one if the first place filled up too.
        self.answers = 0  #: Kept there.
        self._early: list[PriceKept] = []  # came before the first answer
        self._store = store
        self._run = dict(run)

    def keep(self, changes: Sequence[object]) -> None:
        """Write what matters of *changes* to the disk, all or nothing; raises `StoreError` if no place takes it."""
        worth = [*self._early, *(c for c in changes if isinstance(c, Kept))]
        answers = sum(isinstance(c, Settled) for c in worth)
        if not self.paths and not answers:
            self._early = [c for c in worth if isinstance(c, PriceKept)]  # answers to come refer to them
            return
        content = b"".join(_line(record_of(c)) for c in worth)
        if not (self.paths and _appended(self.paths[-1], content) is None):
            self._begin(content, answers)
        self.answers += answers
        self._early = []

    def _begin(self, content: bytes, answers: int) -> None:
        """Write a file in the first place that takes it."""
        header = _line({"kind": KIND, "version": VERSION, "store": str(self._store.absolute()), "run": self._run})
        reasons = []
        for place in places(self._store):
            with contextlib.suppress(OSError):  # then the file cannot be made either, and that is told
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = place / f"{self._store.name}.{secrets.token_hex(4)}{SUFFIX}"
            if (reason := _created(path, header + content)) is None:
                self.paths.append(path)
                return
            reasons.append(reason)
        raise StoreError(
            f"The store cannot be written, and its last answers ({answers}) cannot be kept anywhere else either: "
            f"{'; '.join(reasons)}. They are lost; `status --possible-duplicates` lists them."
        )

    def told(self, why: StoreError) -> StoreError:
        """Return the error that says *why* the store was given up, and where its last answers are."""
        if not self.paths:
            return why
        answers = "1 finished answer is" if self.answers == 1 else f"{self.answers} finished answers are"
        return StoreError(
            f"{why} {answers} kept in {', '.join(map(str, self.paths))}. Mend the cause and run the same command again on "
            "this machine: it takes them in first, and they are not paid for twice. (`batchrunner recover` takes in a "
            "file that was moved.)"
        )


def places(store: Path) -> list[Path]:
    """Return the directories that may hold rescue files of *store*, the best first."""
    found = [beside(store, "").parent]
    for where in (Path.cwd, _of_home, lambda: LASTING, lambda: Path(tempfile.gettempdir())):
        # A directory that was removed, a user whom the machine does not know, nowhere to put anything temporary.
        with contextlib.suppress(OSError, RuntimeError):
            found.append(where())
    return list(dict.fromkeys(place.resolve() for place in found))


def _of_home() -> Path:
    given = Path(os.environ.get("XDG_STATE_HOME") or "")
    return (given if given.is_absolute() else Path("~/.local/state").expanduser()) / "batchrunner"


def rescue_files(store: Path) -> list[Path]:
    """Return the files that may be rescue files of *store*, where a run would have left them: by name, owner and mode."""
    pattern = f"{glob.escape(store.name)}.*{SUFFIX}"
    return [path for place in places(store) for path in sorted(place.glob(pattern)) if _is_ours(path)]


def is_safe(status: os.stat_result) -> bool:
    """Whether nobody else can have written a file of that *status*."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _is_ours(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return is_safe(path.lstat())
    return False


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _created(path: Path, content: bytes) -> str | None:
    """Make *path*, whole and on the disk, or not at all: then return why."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return f"{path.parent}: {error.strerror}"
    os.close(fd)
    reason = _appended(path, content)
    if reason is not None:
        path.unlink(missing_ok=True)
    else:
        sync_directory(path.parent)
    return reason


def _appended(path: Path, content: bytes) -> str | None:
    """Add *content* to *path*, on the disk, or leave it as it was and return why."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return f"{path}: {error.strerror}"
    size = os.fstat(fd).st_size
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, size)
        return f"{path.parent}: {error.strerror}"
    finally:
        os.close(fd)
    return None
