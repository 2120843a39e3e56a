"""The clock of a run: whoever sets the machine's clock in mid-run changes nothing of it."""

import ast
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batchrunner import clock as clock_module
from batchrunner.clock import SystemClock
from batchrunner.lane import monotonic_of, utc_stamp

PACKAGE = Path(clock_module.__file__).parent
#: What may ask the machine for the time of day: nothing of it takes part in a run but the clock itself, once.
MAY_ASK = {"clock.py", "cli", "doctor", "simulator", "batch_errands.py"}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 1.0])
def test_a_wall_clock_that_is_set_moves_no_due_time(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    clock = SystemClock()
    due = clock.monotonic() + 60.0
    stamp = utc_stamp(clock, due)

    class Set(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(seconds=jump_s)

    monkeypatch.setattr(clock_module, "datetime", Set)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert monotonic_of(clock, stamp) == pytest.approx(due, abs=0.5)
    assert abs((clock.utc_now() - datetime.now(UTC)).total_seconds()) < 0.5


def test_nothing_in_a_run_asks_for_the_time_of_day() -> None:
    asks = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today", "time.localtime", "time.gmtime"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in asks and room not in MAY_ASK:
                found.add(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == set()
