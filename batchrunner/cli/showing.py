"""What the reading verbs share in showing things: options, lines, a reader that may leave."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator

import click

from batchrunner.screen import count

_PIPE_WIDTH = 200

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Make it no error that the reader of stdout has gone (`| head`); click by itself would end with 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still held back has nowhere to go: Python would complain of it while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print *text*, in escapes where stdout cannot encode it."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def screen_width() -> int:
    """Return how many columns a line may take."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def attempts(number: int) -> str:
    """Return `1 attempt`, `2 attempts`."""
    return f"{count(number)} attempt{'' if number == 1 else 's'}"
