"""Where exports go: what must not be overwritten, and what is said when writing fails."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchrunner.errors import UsageError
from batchrunner.export.settings import ExportError, Sink
from batchrunner.store.files import lock_path
from batchrunner.store.read import Reader
from batchrunner.store.wishfile import wish_path

_STORE_COMPANIONS = ("-wal", "-shm", "-journal", ".new")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def kept_files(reader: Reader, sources: Iterable[Path]) -> list[Path]:
    """Return what no export may replace: the store and what belongs to it, its input, *sources*.

    Raises `UsageError` for a store without requests.
    """
    if (job := reader.job()) is None:
        raise UsageError(f"{reader.path} has no requests yet; `batchrunner run` takes the job file in.")
    return [*store_files(reader.path), Path(job.input_path), reader.path.parent / job.input_path, *sources]


def store_files(store: Path) -> list[Path]:
    """Return *store* and all that lies beside it and belongs to it."""
    return [
        store,
        lock_path(store),
        wish_path(store),
        *(store.with_name(store.name + suffix) for suffix in _STORE_COMPANIONS),
    ]


@contextlib.contextmanager
def writing_to(target: Path | Sink, store: Path) -> Iterator[None]:
    """Let what fails to be written become an `ExportError` that says why; a reader that has gone stays `BrokenPipeError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        what = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        where = f"{target} could not be written" if isinstance(target, Path) else "The output broke off"
        raise ExportError(f"{where}: {what}. The answers are safe in {store}.") from error
