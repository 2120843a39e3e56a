"""Where the user's configuration stands, and whether it is the user's alone to write."""

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from batchrunner.errors import UsageError

#: Names another file.
VARIABLE = "BATCHRUNNER_CONFIG"
_NAME = Path("batchrunner", "config.toml")


def config_path(environment: Mapping[str, str], home: Path, platform: str = sys.platform) -> Path:
    """Return the file of the user's configuration, be it there or not; raises `UsageError` for a relative `VARIABLE`.

    In this order: what `BATCHRUNNER_CONFIG` names; below `XDG_CONFIG_HOME`; below `~/.config`; on macOS, where that is
    missing, below `~/Library/Application Support`. Never a file in the working directory.
    """
    if named := environment.get(VARIABLE):
        path = Path(named).expanduser()
        if not path.is_absolute():
            raise UsageError(
                f"{VARIABLE} must name the file by its whole path: a relative one changes with the directory."
            )
        return path
    given = Path(environment.get("XDG_CONFIG_HOME") or "")
    if given.is_absolute():
        return given / _NAME
    usual, of_mac = home / ".config" / _NAME, home / "Library" / "Application Support" / _NAME
    return of_mac if platform == "darwin" and of_mac.exists() and not usual.exists() else usual


def check_owner(path: Path) -> None:
    """Raise `UsageError` if others can write the file at *path*: it decides where the key is sent."""
    for place in (path.resolve(), path.resolve().parent):
        try:
            found = place.stat()
        except OSError:
            return  # whoever reads it will say what is wrong
        if found.st_uid not in {os.getuid(), 0}:
            raise UsageError(f"{place} belongs to somebody else, who could send your key anywhere: it is not read.")
        is_shared_folder = (
            stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        )  # /tmp: only owners replace files
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_shared_folder:
            raise UsageError(
                f"{place} can be written by others, who could send your key anywhere: `chmod go-w {place}` first."
            )
