"""`status` and `errors`: what stands in a store, on one screen or as JSON."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.advice import ADVICE
from batchrunner.cli import options
from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.screen import clip, count, duration, visible
from batchrunner.store.files import store_path
from batchrunner.store.read import FailureGroup, Job, PossibleDuplicate, Progress, Reader, Retrying, Run, Spend
from batchrunner.store.read import seconds_between as _seconds

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

_PIPE_WIDTH = 200
_GROUPS_SHOWN = 30
#: Labels of the screens are this wide.
_LABEL = 11


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Make it no error that the reader of stdout has gone (`| head`); click by itself would end with 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still held back has nowhere to go: Python would complain of it while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command()
@options.jobfile
@options.db
@as_json_option
@click.option(
    "--possible-duplicates", is_flag=True, help="List the attempts that may have been paid without an answer."
)
@reader_may_leave()
def status(jobfile: Path, db: Path | None, *, as_json: bool, possible_duplicates: bool) -> None:
    """Show how far JOBFILE is: also while a run works on it.

    JOBFILE is the job file or its store.
    """
    now = datetime.now(UTC)
    with Reader(find_store(jobfile, db)) as reader:
        survey = take_survey(reader, now)
        commands = next_commands(survey, Names.of(jobfile, db, survey.job))
        if as_json:
            report = survey.as_json() | {"next": [command for command, _ in commands]}
            if possible_duplicates:
                report["possible_duplicate_attempts"] = [
                    dataclasses.asdict(found) for found in reader.possible_duplicates(now)
                ]
            click.echo(json.dumps(report, indent=2))
        elif possible_duplicates:
            for found in reader.possible_duplicates(now):
                say(duplicate_line(found))
            click.echo(f"{_attempts(survey.possible_duplicates)} may have been paid for without an answer", err=True)
        else:
            for line in status_lines(survey, commands):
                say(line)


@click.command()
@options.jobfile
@options.db
@as_json_option
@click.option(
    "--class", "error_class", type=click.Choice([str(c) for c in ErrorClass]), help="Only failures of this class."
)
@click.option("--rows", is_flag=True, help="List each failed request.")
@reader_may_leave()
def errors(jobfile: Path, db: Path | None, *, as_json: bool, error_class: str | None, rows: bool) -> None:
    """Show what failed in JOBFILE, why, and the command that mends it.

    JOBFILE is the job file or its store.
    """
    with Reader(find_store(jobfile, db)) as reader:
        names = Names.of(jobfile, db, reader.job())
        if as_json:
            click.echo(json.dumps(_errors_report(reader, error_class, names, rows=rows), indent=2))
        elif rows:
            for failed in reader.failed_requests(error_class):
                place = f"{failed.custom_id}  line {failed.line}  {failed.error_class}  {_attempts(failed.attempts)}"
                say(f"{visible(place)}  {visible(failed.message)}")
        else:
            for line in _error_lines(reader, error_class, names):
                say(line)


def find_store(jobfile: Path, db: Path | None) -> Path:
    """Return the store that the command line means; raises `UsageError` for a name that cannot have one."""
    if db is not None:
        return db
    if not jobfile.name:
        raise UsageError(f"{jobfile} is a directory; name the job file or the store.")
    return store_path(jobfile)


@dataclass(frozen=True, slots=True)
class Names:
    """How one names the job in the next command, quoted for a shell."""

    job: str  #: As it was named now: job file or store.
    input: str  #: The job file: `run` takes no store.

    @classmethod
    def of(cls, jobfile: Path, db: Path | None, job: Job | None) -> "Names":
        """Return the names for what the command line gave; *job* knows the job file where only the store was named."""
        given = _typed(jobfile, db)
        if job is None or db is not None or store_path(jobfile) != jobfile:
            return cls(given, given)
        source = Path(job.input_path)
        beside = store_path(source).absolute() == jobfile.absolute()
        return cls(given, _typed(source, None if beside else jobfile))


def _typed(jobfile: Path, db: Path | None) -> str:
    job = shlex.quote(str(jobfile))
    return job if db is None else f"{job} --db {shlex.quote(str(db))}"


def say(text: str) -> None:
    """Print *text*, in escapes where stdout cannot encode it."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


@dataclass(frozen=True, slots=True)
class Survey:
    """All that `status` shows."""

    store: Path
    job: Job | None
    progress: Progress
    retrying: Retrying
    run: Run | None  #: The latest.
    running: bool
    run_finished: int  #: Requests that became final during that run.
    run_s: float  #: How long that run has worked, or did.
    silent_s: float  #: Since its last sign of life.
    spend: Sequence[Spend]
    possible_duplicates: int

    @property
    def rate_per_s(self) -> float | None:
        """Requests that became final per second of the latest run."""
        return self.run_finished / self.run_s if self.run_s > 0 else None

    @property
    def eta_s(self) -> float | None:
        """How long a run that is under way will still take at its rate so far; None if nothing tells."""
        return self.progress.pending / self.rate_per_s if self.running and self.rate_per_s else None

    def total(self, name: str) -> int:
        """Return the sum of one token column over all lanes."""
        return sum(getattr(lane, name) or 0 for lane in self.spend)

    @property
    def cost_usd(self) -> float | None:
        """What is known of the cost."""
        known = [lane.cost_usd for lane in self.spend if lane.cost_usd is not None]
        return sum(known) if known else None

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        run = None
        if self.run is not None:
            figures = {
                "finished_requests": self.run_finished,
                "elapsed_s": round(self.run_s, 3),
                "rate_per_s": self.rate_per_s,
                "eta_s": self.eta_s,
            }
            run = dataclasses.asdict(self.run) | figures
        return {
            "store": str(self.store),
            "input": self.job.input_path if self.job else None,
            "imported": self.job is not None,
            "simulated": self.job is not None and self.job.simulated,
            **dataclasses.asdict(self.progress),
            "retrying": dataclasses.asdict(self.retrying),
            "running": self.running,
            "run": run,
            "tokens": {name: self.total(name) for name in _TOKENS} | {"cost_usd": self.cost_usd},
            "lanes": [dataclasses.asdict(lane) for lane in self.spend],
            "possible_duplicates": self.possible_duplicates,
        }


_TOKENS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_write_tokens": "written to the cache",
    "cache_read_tokens": "read from it",
}


def take_survey(reader: Reader, now: datetime) -> Survey:
    """Ask *reader* everything that `status` shows; *now* is UTC, aware."""
    run = next(iter(reader.latest_runs(1)), None)
    return Survey(
        store=reader.path,
        job=reader.job(),
        progress=reader.progress(),
        retrying=reader.retrying(),
        run=run,
        running=run is not None and run.is_alive(now),
        run_finished=reader.finished_since(run.started_at) if run else 0,
        run_s=_worked_s(run, now) if run else 0.0,
        silent_s=max(0.0, _seconds(run.heartbeat_at, now)) if run else 0.0,
        spend=reader.tokens(),
        possible_duplicates=reader.count_possible_duplicates(now),
    )


def _worked_s(run: Run, now: datetime) -> float:
    last = now if run.is_alive(now) else datetime.fromisoformat(run.ended_at or run.heartbeat_at)
    return max(0.0, _seconds(run.started_at, last))


def next_commands(survey: Survey, names: Names) -> list[tuple[str, str]]:
    """Return what to type next, each command with what it does."""
    if survey.job is None:
        run = f"batchrunner run {names.input}"
        return [] if survey.running else [(run, "take the job file in and send its requests")]
    p, job = survey.progress, names.job
    commands = []
    if p.pending and not survey.running:
        commands.append((f"batchrunner resume {job}", "send what is pending"))
    if p.failed:
        commands.append((f"batchrunner errors {job}", "why requests failed, and what mends each kind"))
        if not survey.running:
            commands.append((f"batchrunner retry {job}", "try again what another try can mend"))
    if p.succeeded:
        commands.append((f"batchrunner export {job} -o {_suggested_export(survey.store)}", "the answers"))
    return commands


def _suggested_export(store: Path) -> str:
    return shlex.quote(f"{store.stem}-results.csv")


def status_lines(survey: Survey, commands: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of the status screen."""
    yield _labelled("store", str(survey.store))
    if survey.job is None:
        yield _labelled("input", "not taken in completely yet, so nothing was sent")
    else:
        yield _labelled("input", survey.job.input_path)
        yield from _progress_lines(survey)
    if survey.run is not None:
        yield ""
        yield from _run_lines(survey, survey.run)
    yield from _spend_lines(survey)
    for position, (command, purpose) in enumerate(commands):
        if position == 0:
            yield ""
        yield _labelled("" if position else "next", f"{command}   # {purpose}")


def _progress_lines(survey: Survey) -> Iterator[str]:
    p = survey.progress
    width = len(count(p.requests))
    simulated = "  (answers of the simulator: nothing was paid)" if survey.job and survey.job.simulated else ""
    yield _labelled("requests", count(p.requests) + simulated)
    for name, number in (("succeeded", p.succeeded), ("failed", p.failed), ("pending", p.pending)):
        yield _labelled(name, f"{count(number):>{width}}  {_percent(number, p.requests)}")
    if survey.retrying.count:
        next_at = f"  of the pending, waiting for another try; the next at {survey.retrying.next_at}"
        yield _labelled("retrying", f"{count(survey.retrying.count):>{width}}{next_at}")
    if p.removed:
        yield _labelled("removed", f"{count(p.removed):>{width}}  not in the input any more: kept, not sent")


def _run_lines(survey: Survey, run: Run) -> Iterator[str]:
    who = f"process {run.pid} on {run.host}, since {run.started_at}"
    if survey.running:
        yield _labelled("running", f"{who}; last sign of life {duration(survey.silent_s)} ago")
    elif run.ended_at is None:
        yield _labelled("last run", f"{who}: died; last sign of life {duration(survey.silent_s)} ago")
    else:
        reason = f": {run.reason}" if run.reason else ""
        yield _labelled("last run", f"{run.ending} at {run.ended_at}{reason}")
    if survey.rate_per_s is not None:
        left = f", about {duration(survey.eta_s)} left" if survey.eta_s is not None else ""
        finished = f"{count(survey.run_finished)} requests in {duration(survey.run_s)}"
        yield _labelled("rate", f"{survey.rate_per_s:,.1f} requests/s ({finished}){left}")


def _spend_lines(survey: Survey) -> Iterator[str]:
    if survey.spend:
        cost = f"; ${survey.cost_usd:,.2f}" if survey.cost_usd is not None else ""
        yield _labelled("tokens", ", ".join(f"{count(survey.total(n))} {words}" for n, words in _TOKENS.items()) + cost)
    if survey.possible_duplicates:
        paid = f"{_attempts(survey.possible_duplicates)} may have been paid for without an answer"
        yield _labelled("duplicates", f"{paid}; --possible-duplicates lists them")


def duplicate_line(found: PossibleDuplicate) -> str:
    """Return *found* as one line."""
    line = f"line {found.line}" if found.line is not None else "no line of the input any more"
    again = "sent again" if found.sent_again else "not sent again"
    return visible(f"{found.custom_id}  {line}  attempt {found.number}  {found.started_at}  {found.reason}  {again}")


def _errors_report(reader: Reader, error_class: str | None, names: Names, *, rows: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "store": str(reader.path),
        "failed": reader.progress().failed,
        "groups": [_group_report(group, names) for group in reader.failure_groups(error_class)],
        "retrying": reader.unsettled(),
    }
    if rows:
        report["rows"] = [dataclasses.asdict(failed) for failed in reader.failed_requests(error_class)]
    return report


def _group_report(group: FailureGroup, names: Names) -> dict[str, Any]:
    advice = ADVICE[ErrorClass(group.error_class)]
    explained = {
        "meaning": advice.meaning,
        "remedy": advice.remedy,
        "command": advice.command_for(names.job, names.input),
    }
    return dataclasses.asdict(group) | explained


def _error_lines(reader: Reader, error_class: str | None, names: Names) -> Iterator[str]:
    groups = reader.failure_groups(error_class, limit=_GROUPS_SHOWN)
    if not groups:
        yield f"No request has failed{f' as {error_class}' if error_class else ''}."
    for group in groups:
        yield from _group_lines(group, names)
        yield ""
    failed = reader.progress().failed
    rest = failed - sum(group.count for group in groups)
    if groups and rest and error_class is None:
        yield f"{count(rest)} more failed in smaller groups; --rows lists every failed request."
    retrying = reader.unsettled()
    if retrying:
        classes = ", ".join(f"{name} {count(number)}" for name, number in retrying.items())
        yield f"{count(sum(retrying.values()))} pending requests met an error and are being retried: {classes}."
    run = next(iter(reader.latest_runs(1)), None)
    if run is not None and run.reason:
        yield visible(f"The last run {run.ending} at {run.ended_at}: {run.reason}")


def _group_lines(group: FailureGroup, names: Names) -> Iterator[str]:
    advice = ADVICE[ErrorClass(group.error_class)]
    width = screen_width()
    yield clip(f"{count(group.count)} × {group.error_class}: {visible(group.message)}", width)
    more = ", ..." if group.count > len(group.custom_ids) else ""
    yield clip(visible(f"    such as {', '.join(group.custom_ids)}{more}"), width)
    yield f"    between {group.first_at} and {group.last_at}"
    yield f"    {advice.meaning} {advice.remedy}"
    yield visible(f"    {advice.command_for(names.job, names.input)}")


def screen_width() -> int:
    """Return how many columns a line may take."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{visible(text)}"


def _percent(part: int, whole: int) -> str:
    # Rounded down: 100 % means all of them.
    return f"{part * 1000 // whole / 10:.1f} %" if whole else ""


def _attempts(number: int) -> str:
    return f"{count(number)} attempt{'' if number == 1 else 's'}"
