"""`init`: a commented job definition to begin with."""

import shlex
from importlib import resources
from pathlib import Path

import click

from batchrunner.errors import UsageError
from batchrunner.screen import visible


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("job.toml"))
def init(path: Path) -> None:
    """Write a commented job definition to PATH (default: job.toml), which must not exist yet.

    \b
    Example:  batchrunner init jobs/answers.toml
    """
    from batchrunner.definition import SUFFIX, is_definition

    if not is_definition(path):
        raise UsageError(f"{path}: a definition has the suffix {SUFFIX}; that is how every verb knows it.")
    text = resources.files("batchrunner.definition").joinpath("starter.toml").read_text(encoding="utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("THIS_FILE", shlex.quote(str(path))))
    except FileExistsError:
        raise UsageError(f"{path} is there already and is left as it is; name another file.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    name = visible(shlex.quote(str(path)))
    click.echo(f"wrote {name}; name your job file in it, then: batchrunner check {name}", err=True)
