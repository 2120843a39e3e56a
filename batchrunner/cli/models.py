"""`models`: what the endpoint offers, or what is known without asking."""

import json
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli import options
from batchrunner.cli.showing import as_json_option, reader_may_leave, say
from batchrunner.errors import HaltError
from batchrunner.screen import count, table

if TYPE_CHECKING:
    from batchrunner.endpoint import Endpoint

#: Columns by the names that scripts may rely on, and how the table heads them.
_COLUMNS = {
    "id": "model",
    "name": "name",
    "context": "context",
    "max_output": "max output",
    "lifecycle": "lifecycle",
    "deprecated": "deprecated",
    "retires": "ends",
    "not_before": "not before",
    "capabilities": "capabilities",
}
_NUMBERS = frozenset({2, 3})


@click.command()
@options.sending
@as_json_option
@reader_may_leave()
def models(as_json: bool, **given: Any) -> None:
    """List the models that the endpoint offers: context, longest answer, end of life, what they can.

    Where the endpoint names none, or without a credential, the list that batchrunner brings is shown, and said so.

    \b
    Example:  batchrunner models
              batchrunner models --json | jq -r '.models[].id'
    """
    from batchrunner.cli.run import endpoints_of

    found, why = _asked(endpoints_of(given)[0])
    if found is None:
        from batchrunner.catalogue import as_of

        found = _packaged()
        note = f"The endpoint was not asked or names no models ({why}); this is the list of {as_of()} that batchrunner brings."
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps({"source": "packaged" if why else "endpoint", "why": why, "models": found}, indent=2))
    else:
        rows = [list(_COLUMNS.values()), *([_cell(model.get(name)) for name in _COLUMNS] for model in found)]
        used = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows[1:])]
        right = frozenset(used.index(i) for i in _NUMBERS if i in used)
        for line in table([[row[i] for i in used] for row in rows], right=right).splitlines():
            say(line)


def _asked(endpoint: "Endpoint") -> tuple[list[dict[str, Any]] | None, str | None]:
    """Return what the endpoint offers, or None and why it was not asked or has no answer."""
    import anyio

    from batchrunner.api.offers import offered_models
    from batchrunner.endpoint import opened

    async def ask() -> tuple[list[dict[str, Any]] | None, str | None]:
        async with AsyncExitStack() as stack:
            try:
                way = await stack.enter_async_context(opened(endpoint, 1))
            except HaltError:
                return None, "there is no usable credential"
            offers = await offered_models(await way.sender.sdk_client(), way.sender.secrets)
            return (None, offers) if isinstance(offers, str) else ([asdict(offer) for offer in offers], None)

    return anyio.run(ask)


def _packaged() -> list[dict[str, Any]]:
    from batchrunner.catalogue import RETIRED, known_models

    found = []
    for model in known_models().values():
        if model.lifecycle == RETIRED:
            continue
        thinking = [f"thinking({'|'.join(sorted(model.thinking))})"] if model.thinking else []
        abilities = {"prefill": model.prefill, "forced_tools": model.forced_tools, "fast": model.fast}
        found.append(
            {
                "id": model.id,
                "context": model.context,
                "max_output": model.max_output,
                "lifecycle": model.lifecycle,
                "retires": str(model.retires) if model.retires else None,
                "not_before": str(model.not_before) if model.not_before else None,
                "capabilities": [*thinking, *(name for name, able in abilities.items() if able)],
            }
        )
    return found


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return count(value)
    return ", ".join(value) if isinstance(value, list | tuple) else str(value or "")
