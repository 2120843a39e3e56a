"""TOML files that people write: read whole, every key checked; what is wrong is told with file, line and key."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchrunner.api.redact import without_opaque
from batchrunner.errors import UsageError
from batchrunner.tomlfile.checks import ProblemError
from batchrunner.tomlfile.places import line_of

_LARGEST_BYTES = 1 << 20


def read_tables(
    path: Path, check: Callable[[dict[str, Any]], None], *, missing: str, too_large: str = ""
) -> dict[str, Any]:
    """Return the tables of the file at *path*, of at most 1 MB, that *check* finds right.

    Raises `UsageError` naming file, line, key and what is allowed. *missing* says what to do where there is no such
    file, *too_large* what a file beyond the limit may be.
    """
    text = _text(path, missing, too_large)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    except RecursionError:
        raise UsageError(f"{path} is not TOML: nested too deeply.") from None
    try:
        check(tables)
    except ProblemError as problem:
        line = line_of(text, problem.key)
        # What stands in the wrong place may be a key.
        said = without_opaque(str(problem))
        raise UsageError(f"{path}{f', line {line}' if line else ''}: {said}") from None
    return tables


def _text(path: Path, missing: str, too_large: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: {missing}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > _LARGEST_BYTES:
        raise UsageError(f"{path} is larger than such a file can be (1 MB){too_large}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start + 1}).") from error
