"""Requests from Python as a job file for the moment: from there on they go the way of every other."""

import contextlib
import io
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio.lowlevel

from batchrunner.drafts import make_draft
from batchrunner.errors import InputError, StoreError

#: A request as a line of a job file has it, or a prompt.
Line = Mapping[str, Any] | str
Lines = Iterable[Line] | AsyncIterable[Line]

#: So many are written before others have their turn.
_CHUNK = 500


@contextlib.asynccontextmanager
async def spooled(lines: Lines, store: Path) -> AsyncIterator[Path]:
    """Write *lines* to a file beside *store*, readable by its owner only, and take it away at the end.

    What a killed process has left behind there goes too.

    The lines are taken one by one in the caller's own thread; memory stays flat however many there are. Raises
    `InputError` for what is no request, `StoreError` if the file cannot be written.
    """
    fd, path = _draft(store)
    try:
        # Not by its name, which somebody else may have given another file in a directory that all can write to.
        with io.TextIOWrapper(io.BufferedWriter(io.FileIO(fd, "w", closefd=False)), encoding="utf-8") as file:
            count = 0
            async for line in _each(lines):
                count += 1
                text = _text(line, count)
                try:
                    file.write(text)
                except OSError as error:
                    raise _unwritable(store, error) from error
                if not count % _CHUNK:
                    await anyio.lowlevel.checkpoint()
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _draft(store: Path) -> tuple[int, Path]:
    # Not where other temporary files go: that may be memory, and the store beside it needs the room anyway.
    try:
        return make_draft(store.parent, f".{store.name}.spool-", ".jsonl")
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: Path, error: OSError) -> StoreError:
    return StoreError(f"The requests cannot be written beside {store}: {error.strerror}. Nothing was sent.")


async def _each(lines: Lines) -> AsyncIterator[Line]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
        return
    for line in lines:
        yield line


def _text(line: Line, number: int) -> str:
    if not isinstance(line, Mapping | str):
        raise InputError(
            f"Request {number:,} is of type {type(line).__name__}: give objects as a job file has them, or prompts. "
            "Nothing was sent."
        )
    try:
        return json.dumps(line if isinstance(line, str) else dict(line)) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"Request {number:,} cannot be written as JSON: {error}. Nothing was sent.") from error
