"""`recover`: take in what a run could not write to its store."""

from pathlib import Path

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import say
from batchrunner.errors import Exit, UsageError
from batchrunner.screen import visible


@click.command()
@options.jobfile
@options.db
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def recover(jobfile: Path, db: Path | None, *, files: tuple[Path, ...]) -> int:
    """Take answers into the store that a run could not write there: its rescue FILES.

    A run whose disk stays full leaves them in a file and names it. The next `run` or `resume` on the same machine finds
    that file by itself; this verb is for one that was moved, or to do it without sending anything. A request that has
    its answer keeps it; a file that was taken in is removed; doing it twice changes nothing.

    \b
    Example:  batchrunner recover jobs.jsonl
              batchrunner recover jobs.jsonl /mnt/backup/jobs.db.4be1c0de.rescue.jsonl
    """
    from batchrunner.store.adoption import adopt, adopt_found
    from batchrunner.store.files import owned
    from batchrunner.store.owner import owner_connection

    store = find_store(jobfile, db)
    if not store.exists():
        raise UsageError(f"There is no store {store} to take anything in.")
    with owned(store), owner_connection(store, durability="full") as conn:
        found = [adopt(conn, path, store) for path in files] if files else list(adopt_found(conn, store))
    for adopted in found:
        say(visible(adopted.words))
    if not found:
        say(visible(f"There is nothing to take in: no rescue file of {store} lies where a run would have left one."))
    return Exit.OK
