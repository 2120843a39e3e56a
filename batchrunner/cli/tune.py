"""`tune`, `pause`, `unpause`, `stop`: what another terminal may ask of a run while it works."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import as_json_option, say
from batchrunner.cli.telling import Told, living_owner, tell
from batchrunner.errors import UsageError
from batchrunner.screen import visible
from batchrunner.store.owner import Owner
from batchrunner.store.read import Reader

if TYPE_CHECKING:
    from batchrunner.tuning import Tuning

_TOKENS = {"itpm": "input", "otpm": "output"}
_LIMITS = ("rate", "concurrency", *_TOKENS, "burst")


class _NumberOrAuto(click.ParamType[int | str]):
    """A whole number from 1, or `auto`: as if the option had not been given."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        try:
            return click.IntRange(min=1).convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is neither a number of requests per minute nor auto.", param, ctx)


# The names differ from those of `run`: a definition that is named in place of the job file must not stand in for flags.
@click.command()
@options.jobfile
@options.db
@click.option("-j", "--concurrency", "slots", type=click.IntRange(1, 10_000), help="At most so many calls in flight.")
@click.option(
    "--rpm",
    "per_minute",
    type=_NumberOrAuto(),
    metavar="N",
    help="At most so many requests a minute; auto: as if the run had been given no --rpm.",
)
@click.option("--rate", "per_period", metavar="N/PERIOD", help="The same for another period: 600/10s.")
@click.option("--itpm", "inputs", metavar="N", help="At most so many input tokens a minute: 400k; auto: as for --rpm.")
@click.option("--otpm", "outputs", metavar="N", help="The same for output tokens.")
@as_json_option
def tune(
    jobfile: Path,
    db: Path | None,
    *,
    slots: int | None,
    per_minute: int | str | None,
    per_period: str | None,
    inputs: str | None,
    outputs: str | None,
    as_json: bool,
) -> None:
    """Change the limits of the run that works on JOBFILE, or show which are in force.

    It takes effect within a second, for this run and for what `resume` goes on with, and stands in `runs`.

    \b
    Example:  batchrunner tune jobs.jsonl -j 40 --rpm 2000
              batchrunner tune jobs.jsonl                     shows what is in force
    """
    from batchrunner.tuning import Tuning, as_rate, as_tokens

    if per_minute is not None and per_period is not None:
        raise UsageError("Give --rpm or --rate, not both: they set the same limit.")
    if isinstance(per_minute, int):
        per_period = f"{per_minute}/min"
    rate = as_rate(per_period or str(per_minute)) if per_period or per_minute else None
    itpm, otpm = as_tokens("--itpm", inputs), as_tokens("--otpm", outputs)
    is_named = any(limit is not None for limit in (slots, rate, itpm, otpm))
    tuning = Tuning(concurrency=slots, rate=rate, itpm=itpm, otpm=otpm) if is_named else None
    _ask(jobfile, db, tuning, "tune", as_json=as_json)


@click.command()
@options.jobfile
@options.db
@as_json_option
def pause(jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    """Let the run that works on JOBFILE send nothing new until `unpause`; what is in flight goes on.

    Example:  batchrunner pause jobs.jsonl
    """
    _ask_for("pause", jobfile, db, as_json=as_json)


@click.command()
@options.jobfile
@options.db
@as_json_option
def unpause(jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    """Let the run that works on JOBFILE go on after `pause`.

    Example:  batchrunner unpause jobs.jsonl
    """
    _ask_for("unpause", jobfile, db, as_json=as_json)


@click.command()
@options.jobfile
@options.db
@as_json_option
def stop(jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    """Stop the run that works on JOBFILE as a Ctrl-C would: nothing more is sent, what is in flight may finish.

    A second time cancels what is in flight. Returns at once; `status --watch` shows the end.

    Example:  batchrunner stop jobs.jsonl
    """
    _ask_for("stop", jobfile, db, as_json=as_json)


def _ask_for(verb: str, jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    from batchrunner.tuning import Tuning, Verb

    _ask(jobfile, db, Tuning(Verb(verb)), verb, as_json=as_json)


def _ask(jobfile: Path, db: Path | None, tuning: "Tuning | None", verb: str, *, as_json: bool) -> None:
    """Tell the run *tuning*, or nothing, and show what is in force then."""
    store = find_store(jobfile, db)
    with Reader(store) as reader:
        owner = living_owner(store, verb, _resume(jobfile, db, tuning))
        now = _in_force(reader, owner)
    told = None if tuning is None else tell(store, owner, tuning.as_json())
    if told and told.change:
        now = told.change.now
    if as_json:
        click.echo(json.dumps(_record(store, owner, told, now), indent=2))
        return
    if told is not None:
        say(visible(told.words))
    if verb != "stop":
        say(visible(f"process {owner.pid} on {owner.host}: {_state(now)}"))


def _in_force(reader: Reader, owner: Owner) -> dict[str, Any] | None:
    """Return what is in force in the run of *owner*; None before it sends."""
    run = next(iter(reader.latest_runs(1)), None)
    if run is None or run.ended_at is not None or run.pid != owner.pid:
        return None
    settings = reader.settings()
    return {name: settings.get(name) for name in _LIMITS} | {"paused": run.is_paused}


def _state(now: dict[str, Any] | None) -> str:
    if now is None:
        return "still reading its job file"
    rate = f"at most {now['rate']}" if now.get("rate") else "rate limits as the endpoint says"
    tokens = [f"{now[name]:,} {kind} tokens/min" for name, kind in _TOKENS.items() if now.get(name)]
    in_flight = (
        f"at most {now['concurrency']:,} in flight" if now.get("concurrency") else "as many in flight as that takes"
    )
    return f"{', '.join([rate, *tokens, in_flight])}{'; paused' if now['paused'] else ''}"


def _resume(jobfile: Path, db: Path | None, tuning: "Tuning | None") -> str:
    words = ["batchrunner", "resume", str(jobfile), *(["--db", str(db)] if db else [])]
    limits = tuning.limits() if tuning else {}
    words += ["-j", str(limits["concurrency"])] if "concurrency" in limits else []
    for name in ("rate", "itpm", "otpm"):
        words += [f"--{name}", str(limits[name])] if limits.get(name, "auto") != "auto" else []
    return shlex.join(words)


def _record(store: Path, owner: Owner, told: Told | None, now: dict[str, Any] | None) -> dict[str, Any]:
    change = dataclasses.asdict(told.change) if told and told.change else None
    return {
        "store": str(store),
        "pid": owner.pid,
        "host": owner.host,
        "in_force": now,
        "answer": told.words if told else None,
        "change": change,
    }
