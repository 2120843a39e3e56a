"""Options of the way that requests go: live, or by batches."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from batchrunner.policy.routing import Routing

F = TypeVar("F", bound=Callable[..., Any])

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
        type=click.IntRange(min=1),
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


def routing(function: F) -> F:
    """Give *function* the options of the way."""
    for option in reversed((_ROUTE, *_OTHERS)):
        function = option(function)
    return function


def move_routing(function: F) -> F:
    """Give *function* them but for `--route`: it names its way itself."""
    for option in reversed(_OTHERS):
        function = option(function)
    return function


def routing_of(given: dict[str, Any], last: dict[str, Any]) -> "Routing":
    """Return what is *given* of the way, else what the *last* run had; raises `UsageError`."""
    from batchrunner.policy.caps import parse_duration
    from batchrunner.policy.routing import Route, Routing

    name = given.get("route") or last.get("route")
    standard = Routing()
    return Routing(
        route=Route(name) if name else None,
        rows=given.get("batch_size") or last.get("batch_size") or standard.rows,
        queue=given.get("batch_queue") or standard.queue,
        poll_s=given.get("poll_s"),
        submit_only=bool(given.get("submit_only")),
        then_live=bool(given.get("then_live")),
        deadline_s=parse_duration("--deadline", given.get("deadline")),
        moves=bool(given.get("moves")),
    )
