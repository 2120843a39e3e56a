"""Results as they settle, and results as they stand in a store."""

import sqlite3
from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrunner import HaltError, InputError, State, Store, StoreError, UsageError, run, run_sync, stream, streaming
from batchrunner.audience import Buffer
from batchrunner.model import ErrorClass
from batchrunner.store import answers
from running import KEY, MODEL, job_file, rows, simulator

QUIET: Any = {"model": MODEL, "progress": "none"}
SIMULATED: Any = {**QUIET, "simulate": "latency=0.001"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "prompt": f"Question {i}", "metadata": {"n": i}} for i in range(count)]


async def ids(results: streaming.Stream) -> list[str]:
    return [result.custom_id async for result in results]


async def test_each_result_comes_once_whatever_the_server_does(tmp_path: Path) -> None:
    faults = "latency=0.001,400=0.1,429=0.05,retry_after=0.01,seed=4"
    results = stream(prompts(300), store=tmp_path / "x.db", simulate=faults, **QUIET)
    states: Counter[str] = Counter()
    seen = []
    async for result in results:
        seen.append(result.custom_id)
        states[result.status] += 1
        assert result.metadata == {"n": int(result.custom_id[1:])}
        assert (result.text is None) == (not result.ok)
    assert sorted(seen) == sorted(f"r{i}" for i in range(300))
    assert results.report is not None
    assert states == {"succeeded": results.report.totals.succeeded, "failed": results.report.totals.failed}
    assert states["failed"] > 0


async def test_identical_requests_come_once_each_with_the_answer_of_the_one_that_was_sent(tmp_path: Path) -> None:
    twins = [{"id": f"r{i}", "prompt": f"Question {i % 3}"} for i in range(9)]
    more = [{"id": f"r{i}", "prompt": f"Question {i % 5}"} for i in range(9, 15)]
    shared: Any = {"store": tmp_path / "x.db", "dedupe": True, **SIMULATED}
    found = [result async for result in stream(twins, include_done=True, **shared)]
    assert sorted(result.custom_id for result in found) == sorted(f"r{i}" for i in range(9))
    assert sorted(str(result.deduplicated_of) for result in found) == ["None"] * 3 + [
        "r0",
        "r0",
        "r1",
        "r1",
        "r2",
        "r2",
    ]
    assert len({result.text for result in found}) == 3
    found = [result async for result in stream([*twins, *more], include_done=True, **shared)]
    assert sorted(result.custom_id for result in found) == sorted(f"r{i}" for i in range(15))
    assert [result.custom_id for result in found if result.attempts and result.deduplicated_of is None][-2:] == [
        "r9",
        "r13",
    ]


async def test_a_result_is_durable_before_it_is_seen(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    async for result in stream(prompts(30), store=store, **SIMULATED):
        with Store(store) as reading:
            assert reading.get(result.custom_id) == result


async def test_what_earlier_runs_finished_comes_on_request_and_first(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    await run(prompts(20), store=store, **SIMULATED)
    new = [f"r{i}" for i in range(20, 450)]
    assert await ids(stream(prompts(20), store=store, **SIMULATED)) == []
    everything = await ids(stream(prompts(450), store=store, include_done=True, **SIMULATED))
    assert everything[:20] == [f"r{i}" for i in range(20)]
    assert sorted(everything[20:]) == sorted(new)
    assert await ids(stream(prompts(450), store=store, include_done=True, **SIMULATED)) == [f"r{i}" for i in range(450)]


async def test_long_answers_are_read_few_at_a_time_and_none_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "x.db"
    await run(prompts(20), store=store, **SIMULATED)
    with Store(store) as reading:
        longest = max(len(result.message_json or "") for result in reading.results())
        monkeypatch.setattr(answers, "PAGE_BYTES", 3 * longest)
        assert len(reading.settled(range(1, 21))) in {3, 4}
        assert len(reading.finished_before(None, after=0, most=20)) in {3, 4}
    everything = await ids(stream(prompts(60), store=store, include_done=True, **SIMULATED))
    assert sorted(everything) == sorted(f"r{i}" for i in range(60))


async def test_what_a_run_finishes_while_earlier_results_are_read_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_PAGE", 2)
    store = tmp_path / "x.db"
    await run([{"id": "bad", "prompt": "[[sim:400*1]] x"}, *prompts(10)], store=store, **SIMULATED)
    seen = await ids(
        stream(
            [{"id": "bad", "prompt": "[[sim:400*1]] x"}, *prompts(30)],
            store=store, include_done=True, retry=["invalid"], **SIMULATED,
        )
    )  # fmt: skip
    assert sorted(seen) == sorted(["bad", *(f"r{i}" for i in range(30))])


class _Watched(Buffer):
    """Tells when the sending is held back, and how much was kept at most."""

    made: "_Watched"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.held = anyio.Event()
        self.most = 0
        _Watched.made = self

    def final(self, seq: int) -> None:
        super().final(seq)
        self.most = max(self.most, len(self._seqs))

    async def room(self) -> None:
        if len(self._seqs) >= self._size:
            self.held.set()
        await super().room()


async def test_a_slow_consumer_holds_back_the_sending_and_no_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "BUFFER", 10)
    monkeypatch.setattr(streaming, "_PAGE", 1)
    monkeypatch.setattr(streaming, "Buffer", _Watched)
    seen = []
    async with simulator("latency=0.001") as (url, ledger):
        results = stream(prompts(80), store=tmp_path / "x.db", base_url=url, concurrency=4, **QUIET)
        async for result in results:
            seen.append(result.custom_id)
            if len(seen) == 1:
                await _Watched.made.held.wait()
                assert ledger.arrivals <= 1 + 10 + 4
    assert len(set(seen)) == len(seen) == 80
    assert _Watched.made.most <= 10 + 4


async def test_leaving_early_finishes_what_is_in_flight_and_sends_nothing_more(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    async with (
        simulator("latency=0.05") as (url, ledger),
        stream(prompts(400), store=store, base_url=url, concurrency=5, **QUIET) as results,
    ):
        async for _ in results:
            break
    assert results.report is not None
    assert results.report.ending == "interrupted"
    assert ledger.arrivals < 100
    assert rows(store, "SELECT succeeded FROM progress") == [(ledger.arrivals,)]
    assert rows(store, "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]


async def test_a_cancelled_consumer_ends_the_run_at_once(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    lines = [*prompts(3), {"id": "slow", "prompt": "[[sim:delay=60]] never"}]
    async with simulator("latency=0.001") as (url, _), anyio.create_task_group() as group:
        async for _ in stream(lines, store=store, base_url=url, **QUIET):
            group.cancel_scope.cancel()
    assert rows(store, "SELECT ending FROM runs") == [("interrupted",)]
    assert rows(store, "SELECT count(*) > 0 FROM requests WHERE state = 'succeeded'") == [(1,)]


async def test_errors_come_out_of_the_loop(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bad line"):
        await ids(stream([{"nonsense": 1}], store=tmp_path / "x.db", include_done=True, **SIMULATED))
    lines = [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x", "model": "no-such-model"}]
    with pytest.raises(HaltError, match="no-such-model"):
        await ids(stream(lines, store=tmp_path / "y.db", **SIMULATED))


async def test_a_stream_is_one_run(tmp_path: Path) -> None:
    results = stream(prompts(2), store=tmp_path / "x.db", **SIMULATED)
    assert len(await ids(results)) == 2
    with pytest.raises(RuntimeError, match="once"):
        await ids(results)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    lines = [*prompts(3), {"id": "bad", "prompt": "[[sim:400]] x"}, {"id": "cut", "prompt": "[[sim:truncate]] y"}]
    run_sync(job_file(tmp_path / "jobs.jsonl", lines), **SIMULATED)
    return tmp_path / "jobs.jsonl"


def test_a_store_is_found_by_its_job_file_and_gives_typed_rows(finished: Path) -> None:
    with Store(finished) as store:
        results = list(store.results())
        assert [r.custom_id for r in results] == ["r0", "r1", "r2", "bad", "cut"]
        first = results[0]
        assert first.status is State.SUCCEEDED
        assert first.message is not None
        assert first.message["content"][0]["text"] == first.text
        assert first.line == 1
        assert (store.progress().succeeded, store.progress().failed) == (3, 2)
        assert [(r.custom_id, r.error_class) for r in store.failures()] == [
            ("bad", ErrorClass.INVALID),
            ("cut", ErrorClass.TRUNCATED),
        ]
        assert list(store.results("pending")) == []
        assert store.get("nobody") is None
        with pytest.raises(UsageError, match="succeeded, failed"):
            store.results("done")
        with pytest.raises(FrozenInstanceError):
            first.text = "other"  # type: ignore[misc]


def test_a_store_is_never_written_from_python(finished: Path) -> None:
    with Store(finished) as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._conn.execute("DELETE FROM requests")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store"):
        Store(tmp_path / "none.db")
    (tmp_path / "other.db").write_text("no database at all, only some text")
    with pytest.raises(StoreError, match="not a SQLite file"):
        Store(tmp_path / "other.db")


def test_a_closed_store_says_so(finished: Path) -> None:
    store = Store(finished)
    rest = store.results()
    next(rest)
    store.close()
    with pytest.raises(StoreError, match="cannot be read"):
        next(rest)
