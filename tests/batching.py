"""Runs on the second route, against the simulator."""

from collections import Counter
from pathlib import Path
from typing import Any

from batchrunner.policy.routing import Route, Routing
from batchrunner.report import Report
from batchrunner.settings import RunSettings, default_rules, with_rules
from running import WatchedLedger, rows, run_job

#: Batches that are done in no time.
QUICK = "latency=0,batch_s=0.1,batch_cancel_s=0.05"


#: Nobody is spared by waiting for long here.
_SOON = {"first_s": 0.05, "cap_s": 0.1}
RULES = with_rules(default_rules(), {"server": _SOON, "overloaded": _SOON, "expired": _SOON})


def settings(**routing: Any) -> RunSettings:
    """Return the settings of a run by batches that looks often."""
    said: dict[str, Any] = {"route": Route.BATCHES, "rows": 100, "poll_s": 0.05} | routing
    return RunSettings(rules=RULES, routing=Routing(**said))


async def by_batches(path: Path, url: str | None, *, job: dict[str, Any] | None = None, **routing: Any) -> Report:
    """Run the job file at *path* by batches."""
    return await run_job(path, url, settings(**routing), **(job or {}))


def states(store: Path) -> Counter[str]:
    """Return how many batches are in which state."""
    return Counter(state for (state,) in rows(store, "SELECT state FROM batches"))


def sitting(store: Path) -> int:
    """Return how many requests sit in batches."""
    return int(rows(store, "SELECT count(*) FROM requests WHERE batch_id IS NOT NULL")[0][0])


def created(ledger: WatchedLedger) -> int:
    """Return how many batches were created at the API."""
    return sum(arrival.action == "created" for arrival in ledger.seen)
