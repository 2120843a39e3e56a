"""`check --estimate`: what a job will take and cost, from its lines and from what its store knows."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrunner.cli import options
from batchrunner.screen import visible

if TYPE_CHECKING:
    from batchrunner.endpoint import Endpoint
    from batchrunner.forecast import Forecast
    from batchrunner.preflight import Examination


def estimated(
    found: "Examination",
    store: Path,
    endpoints: "Sequence[Endpoint]",
    given: dict[str, Any],
    today: date,
    *,
    count: bool,
) -> "tuple[Forecast, str | None]":
    """Return the forecast of the job that was *found*, and why the API did not *count* tokens, if it was to."""
    import anyio

    from batchrunner.cli.run import limits_of
    from batchrunner.doctor.counting import Counted, count_tokens
    from batchrunner.forecast import forecast

    definition = options.named_definition()
    limits = limits_of(given, definition.limits_record() if definition else {})
    counted = anyio.run(count_tokens, endpoints[0], found.sample) if count else Counted()
    sample, known = _known(store)
    pending = found.facts["store"].get("pending", found.requests)
    size = found.size.times(pending / found.requests) if pending < found.requests else found.size
    result = forecast(
        size,
        limits.within(endpoints[0].limits),
        own=endpoints[0].prices,
        today=today,
        sample=sample,
        known=known,
        counted=counted.tokens_per_char,
        counted_requests=counted.requests,
    )
    return result, counted.trouble


def _known(store: Path) -> tuple[list[Any], dict[str, Any]]:
    """Return what the store has of answers and limits; nothing if there is none, or it cannot be read."""
    from batchrunner.forecast import known_of

    return known_of(store) if store.exists() else ([], {})


def estimate_lines(found: "Forecast", trouble: str | None, width: int) -> Iterator[str]:
    """Yield the lines of the screen, labels *width* wide, safe to show."""
    from batchrunner.forecast import forecast_lines

    yield ""
    for label, text in forecast_lines(found):
        yield f"{label:<{width}}{visible(text)}"
    if trouble is not None:
        yield f"{'':<{width}}{visible(f'tokens were not counted: {trouble}')}"
