"""Files that stand for the moment: their makers lock them, so that what a killed one left behind is known and goes."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path


def make_draft(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Make a file of its own in *folder*, readable by its owner only; returns the descriptor, which holds its lock, and its path.

    The kernel lets go of the lock however the process ends. Files of such names that nobody holds are removed first.
    Raises `OSError`.
    """
    clear_drafts(folder, prefix, suffix)
    while True:
        # mkstemp: a name nobody can foresee, made by us or not at all, mode 0600.
        fd, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)
        if _lock(fd) is not False and _is_there(fd, Path(name)):
            return fd, Path(name)
        os.close(fd)  # somebody took it for an abandoned one before it was locked


def clear_drafts(folder: Path, prefix: str, suffix: str) -> None:
    """Remove the files of those who did not live to do so."""
    for path in folder.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(suffix):
            with contextlib.suppress(OSError):  # not ours to remove
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if _lock(fd):
                        path.unlink()
                finally:
                    os.close(fd)


def _lock(fd: int) -> bool | None:
    """Whether the file is locked now; None: this file system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_there(fd: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(fd))
    return False
