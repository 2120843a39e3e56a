"""Whether a store is still where it was opened, and whether it lies well there."""

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from batchrunner.errors import StoreError
from batchrunner.store.files import beside

#: What an answer takes in the store, with its attempt, about; and how many times that should be free.
_ANSWER_BYTES = 4096
_ROOM = 3
_MOUNTS = Path("/proc/self/mountinfo")
#: File systems that other machines share: locks and the log's shared memory do not reach across them.
NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
    ]
)


class Place:
    """The files of a store that is open: what is written goes there alone, wherever their names lead by now."""

    def __init__(self, store: Path) -> None:
        """*store* was just opened."""
        self._store = store
        self._opened = store.stat()
        # Without reading rights: closing such a descriptor drops none of SQLite's locks.
        self._fd = os.open(store, os.O_PATH | os.O_CLOEXEC) if hasattr(os, "O_PATH") else None
        self._wal = beside(store, "-wal")
        self._wal_opened: os.stat_result | None = None  # until something is written there is none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def check(self) -> None:
        """Raise `StoreError` unless both the store and its log are still the files that were opened."""
        if not _is_still(self._store, self._opened):
            raise StoreError(
                f"{self._store} was removed, moved or replaced while the run wrote to it. Answers go to the file that was "
                "opened: put it back under its name if it was moved, then run the same command again."
            )
        if self._wal_opened is None:
            with contextlib.suppress(OSError):
                self._wal_opened = self._wal.stat()
        elif not _is_still(self._wal, self._wal_opened):
            raise StoreError(
                f"{self._wal} was removed, moved or replaced while the run wrote to it; it is part of the store. What was "
                "answered is folded into the store at the end of this run: wait for that, then run the same command again."
            )

    def conclude(self, conn: sqlite3.Connection) -> None:
        """Raise `StoreError` as `check` does. *conn*: the owner's; where no name leads to the file any more, it is copied."""
        try:
            self.check()
        except StoreError:
            if self._fd is None or os.fstat(self._fd).st_nlink:
                raise
            copy = self._store.with_name(f"{self._store.name}.{secrets.token_hex(4)}.saved.db")
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            try:
                conn.execute("VACUUM INTO ?", (str(copy),))
            except BaseException:
                copy.unlink()
                raise
            raise StoreError(
                f"{self._store} was removed while the run wrote to it. All that was in it is saved in {copy}: rename it to "
                f"{self._store.name} and run the same command again, or remove it if you meant to."
            ) from None


def _is_still(path: Path, opened: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), opened)
    except OSError:
        return False


def concerns(store: Path, pending: int) -> Iterator[str]:
    """Yield what may go wrong with *store* where it lies, in sentences, before *pending* answers are written there."""
    folder = beside(store, "").parent
    if (kind := network_file_system(folder)) is not None:
        yield (
            f"warning: {store} lies on a network file system ({kind}). SQLite's log works there for one machine at best: "
            "do not open the store from another one meanwhile, or name a place on a local disk with --db"
        )
    wanted = _ROOM * pending * _ANSWER_BYTES
    with contextlib.suppress(OSError):
        if (free := shutil.disk_usage(folder).free) < wanted:
            yield (
                f"warning: the disk of {folder} has {_megabytes(free)} free, and {pending:,} answers may take "
                f"{_megabytes(wanted // _ROOM)} or more. If it fills up, sending is on hold until there is room again"
            )


def network_file_system(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the kind of network file system that *folder* lies on; None: it is local, or the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        kind = _kind(os.path.realpath(folder), mounts.read_text(encoding="utf-8", errors="surrogateescape"))
        return kind if kind in NETWORK else None
    return None


def _kind(folder: str, mounts: str) -> str | None:
    """Return what is mounted at *folder* or nearest above it; of several mounts at one point the last lies on top."""
    best, found = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        point = point.encode("latin-1", "replace").decode("utf-8", "surrogateescape").rstrip("/")
        if (folder == point or folder.startswith(point + "/")) and len(point) >= best:
            best, found = len(point), after.split(" ")[0]
    return found


def _megabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
