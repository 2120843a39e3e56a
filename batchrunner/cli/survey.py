"""Everything that `status` shows, gathered at one moment, and what one types next."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from batchrunner.advice import export_command
from batchrunner.cli.money import Bottom
from batchrunner.cli.names import Names
from batchrunner.store.found import Job, Progress, Retrying, Run, Spend, seconds_between
from batchrunner.store.minutes import HeldBack
from batchrunner.store.read import Reader

#: Token columns and how one reads them out.
TOKENS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_write_tokens": "written to the cache",
    "cache_read_tokens": "read from it",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """All that `status` shows."""

    store: Path
    job: Job | None
    progress: Progress
    retrying: Retrying
    in_batches: int  #: Requests that sit in message batches.
    run: Run | None  #: The latest.
    running: bool
    run_finished: int  #: Requests that became final during that run.
    run_s: float  #: How long that run has worked, or did.
    silent_s: float  #: Since its last sign of life.
    spend: Sequence[Spend]
    money: Bottom
    possible_duplicates: int
    held_back: Sequence[HeldBack]  #: What the lanes of the latest run have waited for.

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
        return sum(getattr(lane, name) for lane in self.spend)

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
            "in_batches": self.in_batches,
            "running": self.running,
            "run": run,
            "tokens": {name: self.total(name) for name in TOKENS}
            | {"cost_usd": self.money.known_usd if self.spend else None},
            "money": self.money.as_json(),
            "lanes": [dataclasses.asdict(lane) for lane in self.spend],
            "possible_duplicates": self.possible_duplicates,
            "held_back": [dataclasses.asdict(lane) for lane in self.held_back],
        }


def take_survey(reader: Reader, now: datetime) -> Survey:
    """Ask *reader* everything that `status` shows; *now* is UTC, aware."""
    run = next(iter(reader.latest_runs(1)), None)
    progress = reader.progress()
    return Survey(
        store=reader.path,
        job=reader.job(),
        progress=progress,
        retrying=reader.retrying(),
        in_batches=reader.in_batches(),
        run=run,
        running=run is not None and run.is_alive(now),
        run_finished=reader.finished_during(run) if run else 0,
        run_s=_worked_s(run, now) if run else 0.0,
        silent_s=max(0.0, seconds_between(run.heartbeat_at, now)) if run else 0.0,
        spend=reader.tokens(),
        money=Bottom.of(reader.accounts(now), progress),
        possible_duplicates=reader.count_possible_duplicates(now),
        held_back=reader.held_back(run) if run else (),
    )


def _worked_s(run: Run, now: datetime) -> float:
    last = now if run.is_alive(now) else datetime.fromisoformat(run.ended_at or run.heartbeat_at)
    return max(0.0, seconds_between(run.started_at, last))


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
        commands.append((export_command(job, survey.store), "the answers"))
    return commands
