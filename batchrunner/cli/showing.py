"""What the reading verbs share in showing things: options, lines, a reader that may leave."""

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

import click

from batchrunner.screen import clip, count

_PIPE_WIDTH = 200
_MOST_LINES = 6

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


def fitting(line: str) -> str:
    """Return *line*, cut in the middle if it is wider than the terminal; for a pipe it stays whole."""
    return clip(line, max(1, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else line


def wrapped(line: str, indent: str) -> list[str]:
    """Return *line* (made visible) on as many lines as the terminal needs, the further ones indented; at most six.

    Words stay whole where they can; for a pipe the line stays one.
    """
    if not sys.stdout.isatty():
        return [line]
    width = max(2 * len(indent) + 1, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(
        line, width, subsequent_indent=indent, max_lines=_MOST_LINES, placeholder=" …", break_on_hyphens=False
    )
    return lines or [line]


def many(number: int, noun: str) -> str:
    """Return *number* with *noun* in its number: `1 line`, `2,000 lines`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def attempts(number: int) -> str:
    """Return `1 attempt`, `2 attempts`."""
    return many(number, "attempt")
