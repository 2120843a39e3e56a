"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from batchrunner.cli.sections import together

if TYPE_CHECKING:
    from batchrunner.definition import Definition

F = TypeVar("F", bound=Callable[..., Any])

#: Where the definition stands that was named in place of a job file.
_DEFINITION = "batchrunner.definition"


def _read_definition(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Where a definition is named in place of the job file: what it says stands in for flags that are not given."""
    if value is not None and value.suffix == ".toml":
        from batchrunner.definition import load_definition  # only now: reading verbs start without it

        definition = load_definition(value)
        ctx.meta[_DEFINITION] = definition
        ctx.default_map = {**(ctx.default_map or {}), **definition.options()}
    return value


# Eager: what a definition says must be known before any option looks for its default.
jobfile = click.argument("jobfile", type=click.Path(path_type=Path), is_eager=True, callback=_read_definition)
optional_jobfile = click.argument(
    "jobfile", type=click.Path(path_type=Path), required=False, is_eager=True, callback=_read_definition
)
db = click.option(
    "--db", type=click.Path(path_type=Path), help="The store, if it is not beside the job file (jobs.jsonl: jobs.db)."
)


def named_definition() -> "Definition | None":
    """Return the definition that the command line names in place of the job file, if it does."""
    context = click.get_current_context(silent=True)
    found: Definition | None = context.meta.get(_DEFINITION) if context else None
    return found


def is_from_definition(name: str) -> bool:
    """Whether the option *name* has its value from the named definition, not from the command line."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP


#: How lines become requests.
shaping = together(
    click.option(
        "--prompt", metavar="TEMPLATE", help="Make requests of rows: 'Solve: {question}' takes the field question."
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(["jsonl", "csv", "tsv", "txt"]),
        help="How to read the job file, where its suffix does not tell; .gz of each is unpacked.",
    ),
    click.option("--model", help="For lines that name no model."),
    click.option("--max-tokens", type=click.IntRange(min=1), help="For lines that set none.  [default: 1024]"),
    click.option("--system", help="System prompt for lines that have none."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other parameter for lines that do not set it; repeatable.",
    ),
    click.option(
        "--surrogates",
        type=click.Choice(["refuse", "replace"]),
        default="refuse",
        show_default=True,
        help="Half characters such as \\ud800 in a line: a bad line, or replaced by U+FFFD.",
    ),
    click.option(
        "--allow-files",
        "files",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Let lines name images and PDFs below DIR by path; they are read when they are sent.",
    ),
    click.option("--skip-invalid/--no-skip-invalid", help="Record bad lines as failed requests and send the others."),
    click.option(
        "--on-change",
        type=click.Choice(["keep", "rerun"]),
        help="What to do with requests that were answered before and read differently now.",
    ),
    heading="From lines to requests",
)

#: What part of a job a run works on, and in which order.
sampling = together(
    click.option("--id", "ids", multiple=True, metavar="ID", help="Only this request; repeatable."),
    click.option(
        "--sample",
        type=click.IntRange(min=1),
        metavar="N",
        help="Only N requests drawn by chance; the rest stays pending.",
    ),
    click.option("--shuffle", is_flag=True, help="Send in an order drawn by chance."),
    click.option(
        "--seed", type=int, default=0, show_default=True, metavar="S", help="Decides what --sample and --shuffle draw."
    ),
    heading="Which requests",
)

#: Where requests go.
sending = together(
    click.option("--base-url", metavar="URL", help="Another endpoint than ANTHROPIC_BASE_URL or the official one."),
    click.option(
        "--endpoint",
        "endpoints",
        multiple=True,
        metavar="NAME",
        help="An endpoint of your configuration (docs/endpoints.md); repeatable: the next one where one fails.",
    ),
    click.option(
        "--api-version", metavar="DATE", help="Send another anthropic-version, for a gateway that wants it: 2023-06-01."
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="'NAME: VALUE'",
        help="Send this header with every request; repeatable. Never a credential.",
    ),
    click.option(
        "--insecure-base-url", is_flag=True, help="Permit http:// beyond this machine: the key travels in clear."
    ),
    click.option(
        "--simulate", is_flag=True, help="Use the embedded simulator: nothing leaves this machine, nothing is paid."
    ),
    click.option(
        "--simulate-with", metavar="SPEC", help="The simulator with settings: 'latency=0.2..1,rpm=600,429=0.02'."
    ),
    heading="Where requests go",
)

#: What is done about failures.
ruling = together(
    click.option(
        "--retries", multiple=True, metavar="CLASS=N", help="Repeat failures of a class up to N times: server=10."
    ),
    click.option(
        "--rule",
        "rules",
        multiple=True,
        metavar="CLASS:KEY=VALUE,...",
        help="Change the rule of a class: server:attempts=10,first_s=2,cap_s=120,wait=fibo,jitter=equal.",
    ),
    heading="Failures",
)

#: What a run may take at most.
limits = together(
    click.option("--rpm", metavar="N|auto", help="At most so many requests a minute.  [default: auto, by the headers]"),
    click.option("--rate", metavar="N/PERIOD", help="The same for another period: 600/10s."),
    click.option("--itpm", metavar="N|auto", help="At most so many input tokens a minute: 400000, 400k, 2M."),
    click.option("--otpm", metavar="N|auto", help="The same for output tokens."),
    click.option(
        "--burst", is_flag=True, default=None, help="No even pace: send at once what the endpoint says is left."
    ),
    click.option(
        "-j",
        "--concurrency",
        type=click.IntRange(1, 10_000),
        help="At most so many calls in flight.  [default: as rate and latency ask for, at most 500]",
    ),
    heading="Limits",
)

#: What counts as a failure, and what becomes of it and of the run.
failing = together(
    click.option(
        "--accept",
        multiple=True,
        metavar="CLASSES",
        help="Count such answers as success: truncated,refused,empty,paused,schema.",
    ),
    click.option(
        "--schema",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Every answer must be JSON that fits the JSON schema in FILE (needs batchrunner[schema]).",
    ),
    ruling,
    click.option(
        "--halt", metavar="N|N%", help="Stop at so many failed requests, or such a share of 100 and more finished ones."
    ),
    click.option(
        "--fail-on",
        metavar="any|none|N%",
        help="Exit 1 for any failed request, never, or above a share.  [default: any]",
    ),
    click.option(
        "--max-outage",
        "max_outage_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Stop when nothing was answered for so long.  [default: 3600]",
    ),
    heading="Failures",
)

#: How a run behaves.
going = together(
    click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Deadline of one call.  [default: from max_tokens]",
    ),
    click.option(
        "--drain",
        "drain_s",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="How long calls in flight may finish after Ctrl-C.  [default: 60]",
    ),
    click.option(
        "--durability",
        type=click.Choice(["full", "fast"]),
        default="full",
        show_default=True,
        help="fast: a power cut may lose the last second, a crash nothing.",
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "bar", "plain", "json", "none"]),
        default="auto",
        show_default=True,
        help="auto: a bar on a terminal, a line every 30 s elsewhere.",
    ),
    heading="The run",
)

#: How a run goes about it. None of these is part of a request's identity.
running = together(
    limits,
    failing,
    going,
    together(
        click.option(
            "-n",
            "--first",
            type=click.IntRange(min=0),
            metavar="N",
            help="Only the first N lines; the rest stays pending.",
        ),
        heading="Which requests",
    ),
    sending,
)


def running_again(function: F) -> F:
    """Give *function* the options of `running`, for a verb that goes on: what is not given is as in the last run."""
    function = running(function)
    for option in getattr(function, "__click_params__", ()):
        if option.name in {"rpm", "concurrency", "max_outage_s", "timeout_s"}:
            option.help = f"{option.help.partition('  [default')[0]}  [default: as in the last run]"
    return function
