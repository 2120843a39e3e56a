"""How the command line names a job: the store it means, and what one types in the next command."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from batchrunner.errors import UsageError
from batchrunner.store.files import store_path
from batchrunner.store.found import Job


def find_store(jobfile: Path, db: Path | None) -> Path:
    """Return the store that the command line means; raises `UsageError` for a name that cannot have one."""
    if db is not None:
        return db
    if not jobfile.name:
        raise UsageError(f"{jobfile} is a directory; name the job file or the store.")
    return store_path(jobfile)


@dataclass(frozen=True, slots=True)
class Names:
    """How one names the job in the next command, quoted for a shell."""

    job: str  #: As it was named now: job file or store.
    input: str  #: The job file: `run` takes no store.

    @classmethod
    def of(cls, jobfile: Path, db: Path | None, job: Job | None) -> "Names":
        """Return the names for what the command line gave; *job* knows the job file where only the store was named."""
        given = _typed(jobfile, db)
        if job is None or db is not None or store_path(jobfile) != jobfile:
            return cls(given, given)
        source = Path(job.input_path)
        beside = store_path(source).absolute() == jobfile.absolute()
        return cls(given, _typed(source, None if beside else jobfile))


def _typed(jobfile: Path, db: Path | None) -> str:
    job = shlex.quote(str(jobfile))
    return job if db is None else f"{job} --db {shlex.quote(str(db))}"
