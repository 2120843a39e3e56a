"""A file that appears whole or not at all, and never in place of something that must stay."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from batchrunner.drafts import make_draft
from batchrunner.errors import UsageError
from batchrunner.failpoints import Point, reach

_BUFFER_BYTES = 1024 * 1024


def check_target(target: Path, *, overwrite: bool, kept: Iterable[Path]) -> None:
    """Raise `UsageError` unless *target* can be written: a new file, or with *overwrite* one that is none of *kept*."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{target} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    if any(_is_same(target, path) for path in kept):
        raise UsageError(f"{target} is the job file or part of its store; give the export another name.")
    if mode is None:
        if not target.parent.is_dir():
            raise UsageError(f"There is no directory {target.parent} to write {target.name} to; make it first.")
    elif stat.S_ISDIR(mode):
        raise UsageError(f"{target} is a directory; name a file in it.")
    elif stat.S_ISLNK(mode):
        raise UsageError(f"{target} is a symbolic link, which an export does not follow; name the file itself.")
    elif not stat.S_ISREG(mode):
        raise UsageError(f"{target} is a pipe or a device; leave -o away and redirect the output to it.")
    elif not overwrite:
        raise UsageError(f"{target} exists; -f replaces it.")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there; a name may still be that of a file to come
        return one.absolute() == other.absolute()


@contextlib.contextmanager
def appearing_whole(target: Path) -> Iterator[BinaryIO]:
    """Yield a new file, readable by its owner only; moved to *target* when the block is done and it is on the disk."""
    fd, draft = make_draft(target.parent, ".batchrunner-", ".part")
    try:
        with open(fd, "wb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123 - a descriptor, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
            reach(Point.EXPORTED)
            draft.replace(target)  # while it is locked: nobody may take it for an abandoned one
            reach(Point.RENAMED)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Make a new name in *directory* survive a power cut; a file system that cannot do so has done what it can."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
