"""Options that bound what a run may take in money and time."""

from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli.options import together

if TYPE_CHECKING:
    from batchrunner.policy.caps import Caps

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
)


def caps_of(given: dict[str, Any], last: dict[str, Any]) -> "Caps":
    """Return the caps by the options above; a cap on the cost holds on until another one is *given*."""
    from batchrunner.policy.caps import Caps, parse_duration, parse_usd

    cost = given["max_cost"] if given["max_cost"] is not None else last.get("max_cost")
    return Caps(parse_usd("--max-cost", cost), parse_duration("--max-duration", given["max_duration"]))
