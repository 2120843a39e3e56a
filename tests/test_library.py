"""The package as a library: runs from Python, in async code and outside of it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anthropic import AsyncAnthropic

import batchrunner
from batchrunner import (
    BatchrunnerError,
    Exit,
    HaltError,
    InputError,
    Limits,
    Rate,
    Report,
    Store,
    UsageError,
    run,
    run_sync,
)
from batchrunner.progress import NotebookBar, PlainLines, reporter
from batchrunner.stopping import Stopper
from batchrunner.threaded import RunInThread
from running import KEY, MODEL, job_file, rows, simulator, simulator_thread

QUIET: Any = {"model": MODEL, "progress": "none"}
SIMULATED: Any = {**QUIET, "simulate": "latency=0.001"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "prompt": f"Question {i}"} for i in range(count)]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, batchrunner; print(sorted(m for m in sys.modules if m.split('.')[0] in %r))"
    heavy = ("anyio", "asyncio", "anthropic", "aiohttp", "sqlite3", "tqdm")
    done = subprocess.run([sys.executable, "-c", program % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert set(batchrunner.__all__) <= set(dir(batchrunner))
    for name in batchrunner.__all__:
        assert getattr(batchrunner, name) is not None
    with pytest.raises(AttributeError, match="no_such"):
        _ = batchrunner.no_such  # type: ignore[attr-defined]


async def test_a_job_file_has_its_store_beside_it(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    report = await run(path, **SIMULATED)
    assert (report.ending, report.exit_code, report.totals.succeeded) == ("finished", Exit.OK, 2)
    assert (tmp_path / "jobs.db").exists()


async def _async_rows() -> AsyncIterator[dict[str, Any]]:
    for row in prompts(3):
        yield row


@pytest.mark.parametrize("make", [lambda: prompts(3), lambda: iter(prompts(3)), _async_rows, lambda: ["a", "b", "c"]])
async def test_requests_may_come_from_any_iterable(tmp_path: Path, make: Any) -> None:
    report = await run(make(), store=tmp_path / "x.db", **SIMULATED)
    assert report.totals.succeeded == 3
    assert left_in(tmp_path) == {"x.db", "x.db.lock"}


async def test_rows_become_requests_by_a_template_and_keep_their_other_fields(tmp_path: Path) -> None:
    await run([{"id": 1, "q": "2 + 2?", "want": 4}], store=tmp_path / "x.db", prompt="Solve: {q}", **SIMULATED)
    with Store(tmp_path / "x.db") as store:
        result = store.get("1")
    assert result is not None
    assert str(result.text).endswith("Solve: 2 + 2?")
    assert result.metadata == {"want": 4}


async def test_the_same_call_again_sends_only_what_is_new(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    await run(prompts(5), store=store, **SIMULATED)
    assert (await run(prompts(5), store=store, **SIMULATED)).counts.sent == 0
    assert (await run(prompts(7), store=store, **SIMULATED)).counts.sent == 2


async def test_the_store_alone_is_enough_to_go_on_and_to_retry(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    await run([{"prompt": "[[sim:400*1]] x"}], store=store, **SIMULATED)
    assert (await run(None, store=store, **SIMULATED)).totals.failed == 1
    report = await run(None, store=store, retry=["invalid"], **SIMULATED)
    assert (report.put_back, report.counts.sent) == (1, 1)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([{"prompt": "x"}, 3], "Request 2 is of type int"),
        ([{"prompt": {1, 2}}], "Request 1 cannot be written as JSON"),
        ([{"prompt": "x", "mdoel": "y"}], "requests from Python: 1 bad line of 1"),
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], "same id"),
    ],
)
async def test_bad_requests_are_named_and_nothing_is_left(tmp_path: Path, requests: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        await run(requests, store=tmp_path / "x.db", **SIMULATED)
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requests": ["x"]}, "store="),
        ({"requests": {"prompt": "x"}, "store": "x.db"}, "iterable"),
        ({"requests": "x.db"}, "is a store"),
        ({"rpm": 5, "limits": Limits()}, "not both"),
        ({"rpm": 5, "rate": "5/s"}, "not both"),
        ({"concurrency": 0}, "concurrency"),
        ({"retries": {"sever": 2}}, "CLASS=N"),
        ({"accept": "broken"}, "accept"),
        ({"retry": "sever"}, "error class"),
        ({"retry_params": {"max_tokens": 9}}, "say what with retry"),
        ({"retry": True, "retry_params": {"max_token": 9}}, 'did you mean "max_tokens"'),
        ({"retry": True, "retry_params": {"max_tokens": "9"}}, "retry_params: max_tokens must be an integer"),
        ({"retry_ids": [1.5]}, "retry_ids takes ids"),
        ({"retry_signatures": [7]}, "retry_signatures takes keys"),
        ({"ids": [None]}, "ids takes ids"),
        ({"sample": 0}, "sample must be"),
        ({"seed": "x"}, "seed must be"),
        ({"first": -1}, "first must be"),
        ({"timeout_s": 0}, "timeout_s must be"),
        ({"drain_s": float("inf")}, "drain_s must be"),
        ({"rules": {"server": {"tries": 3}}}, "'tries' is no part of a rule"),
        ({"prompt": "Solve it"}, "names no field"),
        ({"prompt": "{q}", "system": "{"}, "single {"),
        ({"format": "xml"}, "format must be one of jsonl"),
        ({"requests": ["x"], "store": "x.db", "format": "csv"}, "requests from Python are what they are"),
        ({"surrogates": "keep"}, "surrogates must be one of"),
        ({"allow_files": "nowhere"}, "no such directory"),
        ({"requests": "none.toml"}, "no such definition"),
        ({"requests": None, "store": "none.db"}, "none.db"),
        ({"simulate": True, "base_url": "http://127.0.0.1:1"}, "one of them"),
        ({"simulate": "latncy=1"}, "latncy"),
        ({"progress": "loud"}, "progress"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, message: str
) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        await run(**{"requests": "jobs.jsonl", **QUIET, **options})
    assert left_in(tmp_path) == {"jobs.jsonl"}


async def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="modle"):
        await run(["x"], store=tmp_path / "x.db", modle="y")  # type: ignore[call-arg]


async def test_options_reach_the_run(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    async with simulator() as (url, _):
        report = await run(
            [{"prompt": "[[sim:truncate]] x"}, {"prompt": "[[sim:529*1]] y"}],
            store=store, base_url=url, limits=Limits(Rate(600, 10.0), concurrency=7), accept="truncated",
            retries={"overloaded": 0}, system="Be brief.", params={"stop_sequences": ["END"]}, max_tokens=99, **QUIET,
        )  # fmt: skip
    assert (report.totals.succeeded, report.totals.failed) == (1, 1)
    [(settings,)] = rows(store, "SELECT settings FROM runs")
    assert '"rate": "600/10s"' in settings
    assert '"concurrency": 7' in settings
    [(params,)] = rows(store, "SELECT params FROM inputs WHERE params LIKE '%529%'")
    assert '"max_tokens":99,"system":"Be brief.","stop_sequences":["END"]' in params


async def test_everything_goes_through_a_client_of_ones_own(tmp_path: Path) -> None:
    async with (
        simulator("key=theirs") as (url, ledger),
        AsyncAnthropic(api_key="theirs", base_url=url) as client,
    ):
        report = await run(prompts(5), store=tmp_path / "x.db", client=client, **QUIET)
    assert report.totals.succeeded == ledger.arrivals == 5


async def test_a_halt_is_raised_and_says_how_far_it_came(tmp_path: Path) -> None:
    async with simulator("key=sk-ant-api03-the-other") as (url, _):
        with pytest.raises(HaltError, match="ANTHROPIC_API_KEY") as raised:
            await run(prompts(50), store=tmp_path / "x.db", base_url=url, **QUIET)
    assert isinstance(raised.value.report, Report)
    assert raised.value.report.totals.pending == 50


async def test_a_cancelled_run_keeps_what_it_has_and_is_on_record_as_interrupted(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    async with simulator("latency=0.01") as (url, ledger), anyio.create_task_group() as group:

        async def work() -> None:
            await run([*prompts(20), "[[sim:delay=30]] never"], store=store, base_url=url, **QUIET)

        group.start_soon(work)
        await anyio.to_thread.run_sync(ledger.wait_until, lambda ledger: ledger.ends >= 5)
        group.cancel_scope.cancel()
    assert rows(store, "SELECT ending FROM runs") == [("interrupted",)]
    assert rows(store, "SELECT count(*) >= 5 FROM requests WHERE state = 'succeeded'") == [(1,)]


async def test_the_sync_door_opens_where_a_loop_runs_already(tmp_path: Path) -> None:
    assert run_sync(prompts(3), store=tmp_path / "x.db", **SIMULATED).totals.succeeded == 3


def test_the_sync_door_raises_what_the_run_raises(tmp_path: Path) -> None:
    with pytest.raises(BatchrunnerError, match="no such file"):
        run_sync(tmp_path / "none.jsonl", **SIMULATED)


_SCRIPT = """
import sys
from batchrunner import run_sync
run_sync([{"id": f"r{i}", "prompt": f"Q {i}"} for i in range(500)], store="x.db", model=sys.argv[1], concurrency=10)
"""


def test_ctrl_c_in_a_script_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with simulator_thread("latency=0.3") as (url, ledger):
        env = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
        script = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, MODEL], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        )
        ledger.wait_until(lambda ledger: ledger.arrivals >= 15)
        script.send_signal(signal.SIGINT)
        _, stderr = script.communicate(timeout=30)
    assert "KeyboardInterrupt" in stderr
    assert script.returncode == -signal.SIGINT
    assert rows(tmp_path / "x.db", "SELECT ending FROM runs") == [("interrupted",)]
    assert rows(tmp_path / "x.db", "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]
    assert rows(tmp_path / "x.db", "SELECT succeeded FROM progress") == [(ledger.arrivals,)]


_PATIENT_FOR_A_MOMENT = """
import sys
from batchrunner import run_sync
run_sync(["[[sim:delay=60]] never"], store="x.db", model=sys.argv[1], drain_s=0.3)
"""


def test_ctrl_c_in_a_script_waits_for_what_is_in_flight_only_so_long(tmp_path: Path) -> None:
    with simulator_thread() as (url, ledger):
        env = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
        script = subprocess.Popen(
            [sys.executable, "-c", _PATIENT_FOR_A_MOMENT, MODEL],
            cwd=tmp_path,
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        ledger.wait_until(lambda ledger: ledger.arrivals >= 1)
        script.send_signal(signal.SIGINT)
        try:
            _, stderr = script.communicate(timeout=15)
        finally:
            script.kill()
    assert "KeyboardInterrupt" in stderr
    assert "Exception in callback" not in stderr
    assert rows(tmp_path / "x.db", "SELECT ending FROM runs") == [("interrupted",)]


def test_interrupts_drain_then_cancel_and_then_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes: list[int] = []
    running = threading.Event()
    leave: list[Callable[[], object]] = []

    class Recording(Stopper):
        def wish(self, number: int) -> None:
            wishes.append(number)

    async def work(known: Any) -> Report:
        known(Recording.__new__(Recording))
        left, loop = asyncio.Event(), asyncio.get_running_loop()
        leave.append(lambda: loop.call_soon_threadsafe(left.set))
        running.set()
        await left.wait()
        return Report()

    in_thread = RunInThread(work)
    waits: Iterator[None] = iter([None] * 3)

    def interrupted_wait(_timeout: float | None = None) -> bool:
        running.wait(10)
        for _ in waits:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(in_thread._over, "wait", interrupted_wait)
    with pytest.raises(KeyboardInterrupt):
        in_thread.report()
    leave[0]()
    in_thread._thread.join(10)
    assert wishes == [signal.SIGINT] * 2


class _FakeIPython:
    @staticmethod
    def get_ipython() -> Any:
        return type("Shell", (), {"config": {}})()


def test_a_notebook_gets_its_own_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(reporter("auto")) is PlainLines
    monkeypatch.setitem(sys.modules, "IPython", _FakeIPython)
    assert type(reporter("auto")) is NotebookBar
