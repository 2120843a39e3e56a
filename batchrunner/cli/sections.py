"""Options in groups: one decorator for several, shown under one heading."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

#: Under which heading `--help` shows an option.
_HEADING = "batchrunner_heading"


class SectionedCommand(click.Command):
    """A verb of many options: `--help` shows them under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of one heading together; what has none comes last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        rest: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            if not isinstance(param, click.Option) or (record := param.get_help_record(ctx)) is None:
                continue
            heading = getattr(param, _HEADING, None)
            (rest if heading is None else sections.setdefault(heading, [])).append(record)
        for heading, records in {**sections, "Options": rest}.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def together(*options: Callable[[F], F], heading: str | None = None) -> Callable[[F], F]:
    """Return one decorator for *options*, which `--help` of a `SectionedCommand` shows in this order.

    They stand under *heading*, as far as they have none of their own yet.
    """

    def decorate(function: F) -> F:
        before = len(getattr(function, "__click_params__", ()))
        for option in reversed(options):
            function = option(function)
        for param in getattr(function, "__click_params__", ())[before:]:
            if heading is not None and not hasattr(param, _HEADING):
                setattr(param, _HEADING, heading)
        return function

    return decorate
