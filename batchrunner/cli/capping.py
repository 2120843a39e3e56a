"""Options that bound what a run may take in money and time."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli.sections import together

if TYPE_CHECKING:
    from batchrunner.policy.caps import Caps
    from batchrunner.policy.projection import Projection
    from batchrunner.report import Pilot, Wished

#: What a run may cost, and how long it may take.
capping = together(
    click.option(
        "--max-cost",
        "max_cost",
        metavar="USD",
        help="Send nothing more once all runs of the store together may cost so much (none: no cap). Answers in flight "
        "are always collected.",
    ),
    click.option(
        "--max-duration",
        "max_duration",
        metavar="TIME",
        help="End within so long: 90s, 45m, 6h. Sends nothing more in time for the last answers to arrive.",
    ),
    heading="Money and time",
)

#: A sample first.
piloting = together(
    click.option(
        "--pilot",
        type=click.IntRange(min=1),
        metavar="N",
        help="Send N requests drawn by chance first, say what the rest will cost and how much of it will fail, and ask. "
        "Without a terminal: stop there (exit 4).",
    ),
    click.option("-y", "--yes", is_flag=True, help="Go on after --pilot without asking."),
    heading="Money and time",
)


def pilot_of(given: dict[str, Any]) -> "Pilot | None":
    """Return the pilot by the options above; None: none is asked for."""
    from batchrunner.report import Pilot

    if given["pilot"] is None:
        return None
    return Pilot(given["pilot"], _agreed if not given["yes"] else _always)


async def _always(_projection: "Projection", _wished: "Wished") -> bool:
    return True


async def _agreed(_projection: "Projection", wished: "Wished") -> bool:
    """Ask on the terminal; without one nobody can say yes. Whoever interrupts says no."""
    import anyio

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    answers: list[str] = []

    async def ask() -> None:
        click.echo("Send the rest? [Y/n] ", nl=False, err=True)
        await anyio.wait_readable(sys.stdin)
        # A whole line would be waited for, deaf to signals, where a Ctrl-D has cut one short.
        answers.append(os.read(sys.stdin.fileno(), 1024).decode(errors="replace"))
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await wished()
        group.cancel_scope.cancel()
    return bool(answers) and answers[0] != "" and answers[0].strip().lower() in {"", "y", "yes"}


def caps_of(given: dict[str, Any], last: dict[str, Any]) -> "Caps":
    """Return the caps by the options above; a cap on the cost holds on until another one is *given*."""
    from batchrunner.policy.caps import Caps, parse_duration, parse_usd

    cost = given["max_cost"] if given["max_cost"] is not None else last.get("max_cost")
    return Caps(parse_usd("--max-cost", cost), parse_duration("--max-duration", given["max_duration"]))
