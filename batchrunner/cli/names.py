"""How the command line names a job: the store it means, and what one types in the next command."""

import json
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
    input: str  #: The job file with the options it was read with, for `run`.

    @classmethod
    def of(cls, jobfile: Path, db: Path | None, job: Job | None) -> "Names":
        """Return the names for what the command line gave; *job* knows the job file where only the store was named."""
        given = _typed(jobfile, db)
        if job is None:
            return cls(given, given)
        if db is not None or store_path(jobfile) != jobfile:
            return cls(given, given + _reading_options(job))
        source = Path(job.input_path)
        beside = store_path(source).absolute() == jobfile.absolute()
        return cls(given, _typed(source, None if beside else jobfile) + _reading_options(job))


def _typed(jobfile: Path, db: Path | None) -> str:
    job = shlex.quote(str(jobfile))
    return job if db is None else f"{job} --db {shlex.quote(str(db))}"


def _reading_options(job: Job) -> str:
    """Return the options that the lines were read with: without them every request would look changed."""
    shape = json.loads(job.defaults)
    options: list[tuple[str, ...]] = [
        (f"--{name.replace('_', '-')}", str(shape[name]))
        for name in ("prompt", "model", "max_tokens", "system")
        if shape.get(name) is not None
    ]
    options += [
        ("--set", f"{key}={json.dumps(value, ensure_ascii=False)}") for key, value in shape.get("extra", {}).items()
    ]
    options += [(f"--{n.replace('_', '-')}", str(shape[n])) for n in ("format", "allow_files") if shape.get(n)]
    options += [("--skip-invalid",)] if shape.get("skip_invalid") else []
    options += [("--surrogates", "replace")] if shape.get("surrogates") == "replace" else []
    words = [word for option in options for word in option] + (["--simulate"] if job.simulated else [])
    return "".join(f" {shlex.quote(word)}" for word in words)
