"""batchrunner from Python: `run` and `stream` where a loop runs, `run_sync` everywhere else. See docs/python.md.

The examples below use the embedded simulator: leave out `simulate=True` to send for real.

>>> from batchrunner import Store, run_sync
>>> report = run_sync(
...     [{"id": "sky", "prompt": "Why is the sky blue?"}, {"id": "sea", "prompt": "Why is the sea salty?"}],
...     store="answers.db", model="claude-haiku-4-5", simulate=True, progress="none",
... )
>>> report.ending, report.totals.succeeded, int(report.exit_code)
('finished', 2, 0)
>>> with Store("answers.db") as store:
...     for result in store.results():
...         print(result.custom_id, result.status, result.text)
sky succeeded Answer 593483377f67: Why is the sky blue?
sea succeeded Answer a5ca270090e3: Why is the sea salty?
"""

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from batchrunner import runner
from batchrunner.audience import Audience, Buffer
from batchrunner.errors import HaltError
from batchrunner.keywords import Options, Requests
from batchrunner.report import Report
from batchrunner.stopping import Stopper
from batchrunner.streaming import Stream
from batchrunner.threaded import RunInThread
from batchrunner.wishes import planned


async def run(requests: Requests = None, *, signals: bool = False, **options: Unpack[Options]) -> Report:
    """Work on *requests* until each is final, and return how it ended; the same call again goes on.

    *requests* is the path of a job file or any iterable, sync or async, of what a line of one may be; it is taken in
    whole and checked before anything is sent. The path of a definition (`jobs/x.toml`) stands for what it says, which
    *options* that are given win over. None goes on with the *store* alone, limits and rules as in its last run.
    *options*: see `Options`.
    *signals*: obey Ctrl-C, SIGTERM and SIGHUP as the command does (main thread only); the report then says
    `interrupted`. A cancellation cancels the calls in flight and keeps every answer that has arrived.

    Failed requests raise nothing: `report.totals.failed` counts them. Raises `UsageError` for options that make no
    sense, `InputError` for bad requests (nothing is sent then) and its `ChangedRequestsError`, `HaltError` where the
    endpoint refuses everything (`error.report` says how far it came), `StoreError` and its `StoreLockedError`; all
    are a `BatchrunnerError`.

    >>> import asyncio
    >>> report = asyncio.run(run("jobs.jsonl", model="claude-haiku-4-5", rpm=6000, simulate=True, progress="none"))
    >>> report.totals
    Totals(requests=3, succeeded=2, failed=1)
    """
    return await _run(requests, options, signals=signals)


def run_sync(requests: Requests = None, **options: Unpack[Options]) -> Report:
    """Do what `run` does and wait for its end: in a script, and in a notebook, whose loop is running already.

    Ctrl-C (or the notebook's stop button) sends nothing more, lets what is in flight finish and be saved, and then
    raises `KeyboardInterrupt`; a second one cancels what is in flight, a third one waits for nothing. The work is done
    in a thread with a loop of its own, in which a *client* of yours must not be in use elsewhere.

    >>> run_sync("jobs.jsonl", model="claude-haiku-4-5", retry=["invalid"], simulate=True, progress="none").put_back
    1
    """

    async def work(known: Callable[[Stopper], None]) -> Report:
        return await _run(requests, options, known=lambda _store, stopper: known(stopper))

    return RunInThread(work).report()


def stream(requests: Requests = None, *, include_done: bool = False, **options: Unpack[Options]) -> Stream:
    """Run as `run` does and give each `Result` as it becomes final: once, durable before you see it.

    *include_done*: also what earlier runs finished, first and in the order of the input. Whoever takes results slowly
    slows the sending: at most 1,000 of them and what is in flight wait in memory. What is put back for a retry is not
    final; where the run halts, `HaltError` is raised after the last result and the rest stays pending. The run's
    report is the stream's `report` afterwards.

    >>> import asyncio
    >>> async def main():
    ...     results = stream(["Name a river.", "Name a lake."], store="names.db", model="claude-haiku-4-5",
    ...                      simulate=True, progress="none")
    ...     return sorted([result.text.split(": ")[1] async for result in results])
    >>> asyncio.run(main())
    ['Name a lake.', 'Name a river.']
    """

    async def work(buffer: Buffer, known: Callable[[Path, Stopper], None]) -> Report:
        return await _run(requests, options, known=known, audience=buffer)

    return Stream(work, include_done=include_done)


async def _run(
    requests: Requests,
    options: Options,
    *,
    signals: bool = False,
    known: Callable[[Path, Stopper], None] | None = None,
    audience: Audience | None = None,
) -> Report:
    async with planned(requests, options) as plan:
        stopper = Stopper(plan.settings.stopping, plan.reporter.note)
        if known is not None:
            known(plan.job.store, stopper)
        report = await runner.run(
            plan.job,
            plan.settings,
            plan.endpoints,
            reporter=plan.reporter,
            signals=signals,
            stopper=stopper,
            audience=audience,
        )
    if report.ending == "halted":
        halt = HaltError(report.reason)
        halt.report = report
        raise halt
    return report
