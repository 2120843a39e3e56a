"""The second route at full size: `pytest -m soak tests/test_batches_full.py`."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from batching import by_batches, created, settings, states
from batchrunner.errors import Exit
from batchrunner.policy.routing import Route
from running import KEY, RunningCommand, job_file, paid_extra, right_answers, rows, run_job, simulator, simulator_thread

pytestmark = pytest.mark.soak


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


async def test_ten_thousand_rows_are_final_with_right_answers_at_half_the_price(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"question {n}" for n in range(10_000)])
    async with simulator("latency=0,batch_s=1..4,batch_errored=0.01,batch_expired=0.01,batch_queue=6000") as (
        url,
        ledger,
    ):
        report = await by_batches(path, url, rows=1000, queue=5000, poll_s=0.2)
        summary = ledger.summary()
    store = path.with_suffix(".db")
    assert (report.exit_code, report.totals.succeeded) == (Exit.OK, 10_000)
    assert right_answers(store)
    assert paid_extra(store, ledger) == {}
    assert 50 < summary.batch_rows["errored"] < 200
    assert 50 < summary.batch_rows["expired"] < 200
    assert summary.arrivals == 0
    assert states(store).keys() == {"collected"}
    assert created(ledger) == len(rows(store, "SELECT id FROM batches"))
    ((cost, saved),) = rows(store, "SELECT sum(cost_usd), sum(saved_batches_usd) FROM spending")
    assert cost == pytest.approx(saved)


async def test_two_thousand_rows_move_to_live_in_mid_way_and_back(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"question {n}" for n in range(4000)])
    store = path.with_suffix(".db")
    async with simulator("latency=0.01,batch_s=12,batch_cancel_s=0.1") as (url, ledger):
        await by_batches(path, url, rows=500, submit_only=True)
        with anyio.fail_after(60):
            while ledger.summary().batch_rows.get("succeeded", 0) < 1000:  # noqa: ASYNC110 - the simulator's own time
                await anyio.sleep(0.05)
        moving = settings(route=Route.LIVE, moves=True)
        from batchrunner.settings import RunSettings

        await run_job(path, url, RunSettings(routing=moving.routing, first=3000))
        canceled = ledger.summary().batch_rows["canceled"]
        back = await by_batches(path, url, rows=500, moves=True)
    assert canceled > 2000
    assert back.totals.succeeded == 4000
    assert paid_extra(store, ledger) == {}
    assert right_answers(store)


def test_results_stream_by_in_flat_memory_at_five_thousand_rows_a_second(tmp_path: Path) -> None:
    benchmark = Path(__file__).parent.parent / "benchmarks" / "batches.py"
    done = subprocess.run(
        [sys.executable, benchmark, "100000", "20000"],
        capture_output=True, text=True, timeout=500, check=True, env={**os.environ, "ANTHROPIC_API_KEY": KEY},
    )  # fmt: skip
    figures = dict(line.split(None, 1) for line in done.stdout.splitlines())
    words = figures["settled"].replace(",", "").split()
    assert max(float(words[0]), float(words[2])) >= 5000, (
        done.stdout
    )  # by the clock, or by the processor on a busy machine
    early, late = (float(text.split(" MB")[0].split()[-1]) for text in figures["memory"].split(",", 1)[0:2])
    assert late - early < 40, done.stdout


def test_a_queue_that_is_full_makes_it_wait_not_fail(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", [f"question {n}" for n in range(1000)])
    with simulator_thread("latency=0,batch_s=0.5,batch_queue=150") as (url, ledger):
        run = RunningCommand(
            *("run", "jobs.jsonl", "--model", "claude-haiku-4-5", "--route", "batches", "--batch-size", "100"),
            *("--poll", "0.1"),
            url=url,
            cwd=tmp_path,
        )
        assert run.finish(200).code == Exit.OK, run.stderr
    assert created(ledger) == 10
