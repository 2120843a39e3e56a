"""`run`: work on a job until every request is final; whatever goes wrong becomes an error with an exit code."""

import json
import random
import sqlite3
from collections.abc import Sequence
from typing import Any

import anyio

from batchrunner.assembly import Means
from batchrunner.audience import Audience, Nobody
from batchrunner.clock import Clock, SystemClock
from batchrunner.endpoint import Endpoint
from batchrunner.errors import BatchrunnerError, MemoryFullError, StoreError
from batchrunner.progress import Reporter
from batchrunner.report import Job, Report
from batchrunner.session import Session
from batchrunner.settings import RunSettings
from batchrunner.stopping import Stopper
from batchrunner.store.files import damaged


async def run(
    job: Job,
    settings: RunSettings,
    endpoint: Endpoint | Sequence[Endpoint],
    *,
    reporter: Reporter,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    signals: bool = False,
    stopper: Stopper | None = None,
    audience: Audience | None = None,
) -> Report:
    """Work on *job* until every request is final, something halts it, or the user stops it.

    *endpoint*: where to send; of several the first that works. *signals*: obey SIGINT, SIGTERM and SIGHUP (main thread only); *stopper*: obey whoever holds it. Raises `BatchrunnerError` where nothing can be
    done; whatever was answered by then is in the store.
    """
    stopper = stopper or Stopper(settings.stopping, reporter.note)
    async with anyio.create_task_group() as group:
        if signals:
            group.start_soon(stopper.listen)
        means = Means(settings, clock or SystemClock(), rng or random.Random(), audience or Nobody())
        endpoints = [endpoint] if isinstance(endpoint, Endpoint) else list(endpoint)
        session = Session(job, means, endpoints, reporter, stopper)
        error: BaseException | None = None
        try:
            report = await session.run()
        except* BatchrunnerError as errors:
            error = _first(errors)
        # What is no UTF-8 or no JSON in a store was damaged since: nothing else was ever written there.
        except* (sqlite3.Error, UnicodeDecodeError, json.JSONDecodeError) as errors:
            cause = _first(errors)
            error = StoreError(damaged(job.store, cause))
            error.__cause__ = cause
        except* MemoryError:
            error = MemoryFullError(
                f"The memory that this process may use is full. What was saved is in {job.store}, and the same command goes "
                "on; fewer calls in flight (-j) need less memory."
            )
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return report


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
