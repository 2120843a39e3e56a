"""Who works on a store, for those who only look."""

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from batchrunner.store.files import close_owner, lock_path, open_owner, remove


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that said it owns a store."""

    pid: int
    host: str
    name: str | None  #: Of this one ownership; None: of a version that cannot be told anything.
    uid: int  #: Of the user it works for.

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def lives(self) -> bool:
        """Whether it is a process of this machine that is still there."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except PermissionError:  # it is there, and somebody else's
            return True
        except (OSError, OverflowError):
            return False
        return True


def last_owner(store: Path) -> Owner | None:
    """Return who owned *store* last and has not given it back. It may have died since.

    For people who wait. Taking the lock to see would make a run fail that starts at that moment.
    """
    lock = lock_path(store)
    try:
        owner, name = json.loads(lock.read_bytes()), None
        if isinstance(owner.get("name"), str):
            name = owner["name"]
        return Owner(int(owner["pid"]), str(owner["host"]), name, lock.stat().st_uid)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def owner_lives(store: Path) -> bool:
    """Whether the process of this machine that owns *store* is still there."""
    owner = last_owner(store)
    return owner is not None and owner.lives


@contextlib.contextmanager
def owner_connection(
    store: Path, *, durability: str, note: Callable[[str], None] = lambda _: None
) -> Iterator[sqlite3.Connection]:
    """Open *store* for writing, as `open_owner` does; one that was made for an import that came to nothing goes again."""
    new = not store.exists()
    conn = open_owner(store, durability=durability, note=note)
    try:
        yield conn
    finally:
        empty = new and conn.execute("SELECT count(*) FROM job").fetchone()[0] == 0
        close_owner(conn)
        if empty:
            remove(store)
