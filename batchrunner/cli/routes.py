"""Options of the way that requests go: live, or by batches."""

import click

from batchrunner.cli.sections import together

_HEADING = "Live, or by batches"

_ROUTE = click.option(
    "--route",
    type=click.Choice(["live", "batches"]),
    help="batches: half the price, up to 24 h (docs/batches.md).  [default: batches while some are open, else live]",
)
_OTHERS = (
    click.option(
        "--batch-size", type=click.IntRange(1, 100_000), metavar="N", help="Rows of a batch at most.  [default: 10000]"
    ),
    click.option(
        "--batch-queue",
        type=click.IntRange(1, 10_000_000),
        metavar="N",
        help="Rows that are with the API at once, all batches together.  [default: 200000]",
    ),
    click.option(
        "--poll",
        "poll_s",
        type=click.FloatRange(min=0.05),
        metavar="SECONDS",
        help="Between the first looks at a batch; later ones come up to four times as late.  [default: 15]",
    ),
    click.option(
        "--submit-only/--wait",
        "submit_only",
        default=False,
        help="Leave when all batches are submitted; the same command without it collects them.  [default: wait]",
    ),
    click.option(
        "--then-live", is_flag=True, help="Send live, at the end, what batches did not answer or cannot take."
    ),
    click.option(
        "--deadline", metavar="TIME", help="Batches while there is time, live calls for what is left then: 6h, 90m."
    ),
)


#: All of it.
routing = together(_ROUTE, *_OTHERS, heading=_HEADING)
#: The same for a verb that names the way itself.
move_routing = together(*_OTHERS, heading=_HEADING)
