"""The small file beside a store in which another terminal tells the run that works on it what it should do.

Only the owner of a store writes there, so a wish is a file of its own, `jobs.db.wish`: complete from its first moment,
one at a time, for its writer's eyes alone. The owner takes it away when it acts on it, and the record of the run says
what came of it. A wish names the owner it is for, so that one that was left behind never reaches a later run.
"""

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.errors import StoreError, UsageError
from batchrunner.store.files import beside

#: No wish of ours is near as long.
_LARGEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Wish:
    """What a file held."""

    id: str
    asked: object  #: JSON, of any shape: whoever acts on it must look.


class BadWishError(UsageError):
    """The file is none of ours, or is for another run. It has been removed if that could be done."""


def wish_path(store: Path) -> Path:
    """Return where a wish for the owner of *store* lies, whatever link leads to the store."""
    return beside(store, ".wish")


@dataclass(frozen=True, slots=True)
class Sent:
    """A wish on its way, as its sender sees it. To be closed."""

    id: str
    path: Path
    _fd: int  # kept open, so that no later file can pass for this one

    def is_taken(self) -> bool:
        """Whether the file has gone from its place."""
        try:
            return not os.path.samestat(self.path.lstat(), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def withdraw(self) -> bool:
        """Take the wish back; False if the owner has it already."""
        # Under this lock the owner cannot take it, so the name leads to our file until it is gone.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if self.is_taken():
            return False
        self.path.unlink()
        return True

    def close(self) -> None:
        """Let go of the file; the wish stays."""
        os.close(self._fd)


def send(store: Path, owner: str, asked: Mapping[str, Any]) -> Sent | None:
    """Leave a wish for *owner* beside *store*; None if another one still lies there. Raises `StoreError`."""
    path = wish_path(store)
    wish_id = secrets.token_hex(8)
    text = json.dumps({"owner": owner, "id": wish_id, "asked": dict(asked)})
    try:
        fd = _publish(path, path.with_name(f"{path.name}.{wish_id}"), text.encode())
    except FileExistsError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}), so the run cannot be told anything.") from error
    return Sent(wish_id, path, fd)


def _publish(path: Path, draft: Path, content: bytes) -> int:
    """Make *path* appear with *content*, whole, for us alone; return it open. Raises `OSError`, also if it exists."""
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # whatever the umask takes away
        os.write(fd, content)
        path.hardlink_to(draft)  # fails where one lies already, which a rename would replace
    except BaseException:
        os.close(fd)
        raise
    finally:
        draft.unlink()
    return fd


def take(store: Path, owner: str) -> Wish | None:
    """Return the wish that lies beside *store* for *owner*, the caller, and remove it; None if there is none.

    Raises `BadWishError`, once for each such file, for one that is no wish for this owner.
    """
    path = wish_path(store)
    try:
        path.lstat()
    except OSError:
        return None
    with _claimed(path) as fd:
        if fd is None:
            return None
        return _wish(path, os.read(fd, _LARGEST_BYTES + 1), owner)


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[int | None]:
    """Open the file at *path* and remove it; None if its sender is just withdrawing it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:  # a symbolic link, or nothing that we may read
        _remove(path)
        raise BadWishError(f"{path} cannot be read as a wish ({error.strerror}); it is ignored.") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if not os.path.samestat(path.lstat(), status):
            yield None
            return
        _remove(path)
        _check(path, status)
        yield fd
    except (BlockingIOError, FileNotFoundError):
        yield None
    finally:
        os.close(fd)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        fault = "is no plain file"
    elif status.st_uid != os.geteuid():
        fault = "belongs to another user"
    elif status.st_mode & 0o077:
        fault = "is open to other users"
    elif status.st_size > _LARGEST_BYTES:
        fault = "is too large"
    else:
        return
    raise BadWishError(f"{path} {fault}, so it is no wish of yours; it is ignored.")


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:  # a directory, or a directory of somebody else's
        raise BadWishError(f"{path} is in the way and cannot be removed ({error.strerror}).") from error


def _wish(path: Path, content: bytes, owner: str) -> Wish:
    try:
        value = json.loads(content)
        wish_id, meant = value["id"], value["owner"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadWishError(f"{path} held no wish that can be read; it is ignored.") from error
    if meant != owner:
        raise BadWishError(f"{path} held a wish for another run; it is ignored.")
    if not isinstance(wish_id, str):
        raise BadWishError(f"{path} held no wish that can be read; it is ignored.")
    return Wish(wish_id, value.get("asked"))
