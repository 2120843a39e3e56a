"""`status --watch`: the same screen again and again until the run is over."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

import click

from batchrunner.cli.showing import fitting, say

#: Seconds between two looks, if `--watch` names none.
EVERY_S = 2.0

_HOME, _CLEAR_LINE, _CLEAR_BELOW, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


class WatchCommand(click.Command):
    """A command whose `--watch` may stand without a number before the job file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a `--watch` that no number follows its default; click would take the next word for its value."""
        return super().parse_args(ctx, list(_completed(args)))


def _completed(args: Sequence[str]) -> Iterator[str]:
    for position, word in enumerate(args):
        if word == "--watch" and not _is_number(args[position + 1 : position + 2]):
            yield f"--watch={EVERY_S}"
        elif word == "--":
            yield from args[position:]
            return
        else:
            yield word


def _is_number(words: Sequence[str]) -> bool:
    try:
        return bool(words) and float(words[0]) is not None
    except ValueError:
        return False


def watch(look: Callable[[], tuple[Sequence[str], bool]], pause: Callable[[], None]) -> None:
    """Show the lines that *look* returns, *pause*, and again, as long as it says that there is more to come.

    A terminal is redrawn in place; elsewhere each look is a block of lines with an empty one after it.
    """
    draw = _redraw if _can_redraw() else _append
    if draw is _redraw:
        click.echo(_CLEAR, nl=False)
    while True:
        lines, more = look()
        draw(lines)
        if not more:
            return
        pause()


def _can_redraw() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _append(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)
    say("")
    sys.stdout.flush()


def _redraw(lines: Sequence[str]) -> None:
    # Nothing may wrap or scroll: the next look begins at the top.
    height = max(1, shutil.get_terminal_size().lines - 1)
    click.echo(_HOME, nl=False)
    for line in lines[:height]:
        say(fitting(line) + _CLEAR_LINE)
    click.echo(_CLEAR_BELOW, nl=False)
    sys.stdout.flush()
