import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.errors import StoreError, UsageError
from batchrunner.model import ErrorClass, Halt
from batchrunner.store import accounts, groups, read
from batchrunner.store.found import Progress, Retrying, Unsettled
from batchrunner.store.read import Reader
from batchrunner.store.rows import export_sql
from batchrunner.store.selection import Selection, put_back
from store_helpers import NOW, StoreMaker, answer, at, building, failure, request, requests


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


def test_a_store_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store"), Reader(tmp_path / "none.db"):
        pass


def test_an_import_that_was_cut_short_counts_for_nothing(store: StoreMaker) -> None:
    """Before the import is complete the indexes that the statements name are not there."""
    from batchrunner.store.imports import FirstImport

    FirstImport(store.conn).add(requests(3))
    with Reader(store.path) as reader:
        assert reader.job() is None
        assert reader.progress() == Progress()
        assert reader.retrying() == Retrying(0, None)
        assert reader.failure_groups() == []
        assert [*reader.failed_requests(), *reader.export_rows(), *reader.metadata()] == []
        assert list(reader.possible_duplicates(NOW)) == []
        assert reader.tokens() == []
        assert reader.unsettled() == Unsettled({}, {})


def test_progress_counts_the_latest_input_and_what_left_it(store: StoreMaker) -> None:
    store.take_in(requests(5))
    store.begin()
    store.settle("r1", answer())
    store.settle("r2", failure(ErrorClass.INVALID))
    store.settle("r5", answer())
    store.take_in(requests(4))
    with Reader(store.path) as reader:
        assert reader.progress() == Progress(requests=4, succeeded=1, failed=1, pending=2, removed=1)


def test_a_reader_speaks_of_one_moment_while_a_run_writes(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    with Reader(store.path) as reader:
        before = reader.progress()
        store.settle("r1", answer())
        assert reader.progress() == before
    with Reader(store.path) as reader:
        assert reader.progress().succeeded == 1


def test_a_reader_sees_what_a_killed_run_left_in_the_log(store: StoreMaker, tmp_path: Path) -> None:
    """Copies of the file and its write-ahead log are what a kill leaves behind."""
    store.take_in(requests(1))
    store.begin()
    store.settle("r1", answer())
    copy = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{store.path}{suffix}").read_bytes())
    with Reader(copy) as reader:
        assert reader.progress().succeeded == 1


def test_a_run_is_alive_until_it_ends_or_falls_silent(store: StoreMaker) -> None:
    store.take_in(requests(1))
    with Reader(store.path) as reader:
        assert not reader.is_running(NOW)
        assert reader.latest_runs(3) == []
    store.begin()
    for beat, alive in (("11:59:41", True), ("11:59:39", False), ("12:00:05", True), ("13:00:00", False)):
        store.beat(beat)
        with Reader(store.path) as reader:
            assert reader.is_running(NOW) is alive, beat
    store.beat("12:00:00")
    store.end("12:00:00", "halted", "no credit")
    with Reader(store.path) as reader:
        assert not reader.is_running(NOW)
        (run,) = reader.latest_runs(3)
    assert (run.ending, run.reason, run.pid, run.host) == ("halted", "no credit", 4242, "box")


def test_latest_runs_come_newest_first(store: StoreMaker) -> None:
    store.take_in(requests(1))
    ids = [store.begin(f"11:0{n}:00") for n in range(3)]
    with Reader(store.path) as reader:
        assert [run.id for run in reader.latest_runs(2)] == [ids[2], ids[1]]


def test_failures_are_grouped_by_class_and_signature(store: StoreMaker) -> None:
    store.take_in(requests(8))
    store.begin()
    for n in range(1, 5):
        message = f"field {n} is wrong"
        store.settle(f"r{n}", failure(ErrorClass.INVALID, message), ended=f"11:00:0{n}")
    store.settle("r5", failure(ErrorClass.REFUSED, "no"))
    store.settle("r6", answer())
    with Reader(store.path) as reader:
        first, second = reader.failure_groups()
        assert reader.failure_groups(ErrorClass.REFUSED) == [second]
        assert reader.failure_groups(limit=1) == [first]
        assert [(f.custom_id, f.line, f.attempts) for f in reader.failed_requests()][::4] == [
            ("r1", 1, 1),
            ("r5", 5, 1),
        ]
        assert [f.custom_id for f in reader.failed_requests(ErrorClass.REFUSED)] == ["r5"]
    assert (first.error_class, first.signature, first.count) == ("invalid", "field # is wrong", 4)
    assert (first.message, first.custom_ids) == ("field 1 is wrong", ("r1", "r2", "r3"))
    assert (first.first_at, first.last_at) == (at("11:00:01"), at("11:00:04"))


def test_failures_of_requests_that_left_the_input_are_not_counted(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r2", failure(ErrorClass.INVALID))
    store.take_in(requests(1))
    with Reader(store.path) as reader:
        assert reader.failure_groups() == []
        assert list(reader.failed_requests()) == []


def test_requests_that_wait_for_another_try_are_counted_with_the_next_instant(store: StoreMaker) -> None:
    store.take_in(requests(4))
    store.begin()
    store.settle("r1", failure(ErrorClass.SERVER), retry_at="12:00:09")
    store.settle("r2", failure(ErrorClass.SERVER), retry_at="12:00:04")
    store.settle("r3", failure(ErrorClass.BILLING), decision=Halt("no credit"))
    with Reader(store.path) as reader:
        assert reader.retrying() == Retrying(2, at("12:00:04"))
        assert reader.unsettled() == Unsettled(retrying={"server": 2, "billing": 1}, put_back={})
        assert reader.unsettled(ErrorClass.BILLING) == Unsettled(retrying={"billing": 1}, put_back={})


def test_what_retry_put_back_is_counted_apart_until_its_next_attempt_ends(store: StoreMaker) -> None:
    store.take_in(requests(5))
    store.begin()
    for n in range(1, 5):
        store.settle(f"r{n}", failure(ErrorClass.SERVER))
    store.settle("r5", failure(ErrorClass.TRUNCATED))
    put_back(store.conn, Selection(classes=[ErrorClass.SERVER]), at=at("11:40:00"))
    store.begin("11:40:00")

    def found() -> tuple[int, int, dict[str, int], dict[str, int]]:
        with Reader(store.path) as reader:
            unsettled = reader.unsettled()
            groups = sum(group.count for group in reader.failure_groups())
            assert reader.progress().failed == groups == len(list(reader.failed_requests()))
            return groups, reader.progress().pending, unsettled.retrying, unsettled.put_back

    assert found() == (1, 4, {}, {"server": 4})
    store.start("r1")  # in flight: nothing has become of it yet
    assert found() == (1, 4, {}, {"server": 4})
    store.settle("r2", answer())
    store.settle("r3", failure(ErrorClass.TIMEOUT), retry_at="11:41:00")
    assert found() == (1, 3, {"timeout": 1}, {"server": 2})
    store.settle("r3", failure(ErrorClass.TIMEOUT))
    store.settle("r4", failure(ErrorClass.SERVER))
    assert found() == (3, 1, {}, {"server": 1})


def test_what_became_final_in_the_latest_run_is_counted(store: StoreMaker) -> None:
    store.take_in(requests(6))
    store.begin("11:00:00")
    for n in range(1, 5):
        store.settle(f"r{n}", answer() if n % 2 else failure(ErrorClass.SERVER), ended=f"11:00:0{n}")
    store.end("11:10:00")

    def finished() -> int:
        with Reader(store.path) as reader:
            return reader.finished_during(reader.latest_runs()[0])

    assert finished() == 4
    put_back(store.conn, Selection(), at=at("11:40:00"))
    store.begin("11:40:00")
    assert finished() == 0
    store.settle("r2", answer(), ended="11:40:01")
    store.settle("r5", answer(), ended="11:40:02")
    store.settle("r6", failure(ErrorClass.SERVER), ended="11:40:02", retry_at="11:41:00")
    assert finished() == 2
    store.take_in(requests(4), on_change="keep")
    assert finished() == 1


def test_lanes_are_summed_apart_also_those_of_failures(store: StoreMaker) -> None:
    store.take_in(requests(3))
    store.begin()
    store.settle("r1", answer())
    store.settle("r2", failure(ErrorClass.TIMEOUT, possibly_paid=True))
    store.settle("r3", answer(), lane="opus")
    with Reader(store.path) as reader:
        haiku, opus = reader.tokens()
    assert (haiku.lane, haiku.attempts, haiku.answered, haiku.possibly_paid, haiku.input_tokens) == (
        "haiku",
        2,
        1,
        1,
        100,
    )
    assert (opus.lane, opus.attempts, opus.answered, opus.possibly_paid, opus.output_tokens) == ("opus", 1, 1, 0, 20)


def test_possible_duplicates_of_a_lane_without_any_answer_are_found(store: StoreMaker) -> None:
    store.take_in(requests(3))
    store.begin()
    store.start("r3", lane="opus")
    store.start("r2")
    store.start("r1")
    with Reader(store.path) as reader:
        assert [found.custom_id for found in reader.possible_duplicates(NOW)] == ["r1", "r2", "r3"]


def test_tokens_are_summed_per_lane(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.settle("r1", answer())
    store.settle("r2", answer())
    with Reader(store.path) as reader:
        (spend,) = reader.tokens()
    assert (spend.lane, spend.attempts, spend.answered) == ("haiku", 2, 2)
    assert (spend.input_tokens, spend.output_tokens, spend.cache_write_tokens, spend.cache_read_tokens) == (
        200,
        40,
        6,
        8,
    )
    assert spend.cost_usd is None


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("died", "in flight when the run died"),
        ("interrupted", "in flight when the run was interrupted"),
        ("halted", "in flight when the run ended"),
        (None, "in flight when the run died"),
    ],
)
def test_attempts_in_flight_when_a_run_ended_may_be_duplicates(
    store: StoreMaker, ending: str | None, reason: str
) -> None:
    store.take_in(requests(3))
    store.begin()
    store.start("r2", "11:00:07")
    if ending:
        store.end(ending=ending)
    with Reader(store.path) as reader:
        (found,) = reader.possible_duplicates(NOW)
        assert reader.count_possible_duplicates(NOW) == 1
    assert (found.custom_id, found.line, found.number, found.started_at) == ("r2", 2, 1, at("11:00:07"))
    assert (found.reason, found.sent_again) == (reason, False)


def test_what_is_in_flight_in_a_living_run_is_no_possible_duplicate(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.start("r1")
    store.begin("11:59:55")  # the run before died
    store.start("r1")
    store.start("r2")
    with Reader(store.path) as reader:
        (found,) = reader.possible_duplicates(NOW)
    assert (found.custom_id, found.number, found.sent_again) == ("r1", 1, True)
    assert found.reason == "in flight when the run died"


def test_failures_that_may_have_been_paid_for_are_possible_duplicates(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin("11:59:55")
    store.settle("r1", failure(ErrorClass.TIMEOUT, possibly_paid=True), retry_at="12:00:00")
    store.settle("r1", answer())
    store.settle("r2", failure(ErrorClass.SERVER))
    with Reader(store.path) as reader:
        (found,) = reader.possible_duplicates(NOW)
    assert (found.custom_id, found.reason, found.sent_again) == ("r1", "timeout", True)


def test_a_possible_duplicate_that_left_the_input_has_no_line(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    store.start("r2")
    store.end(ending="interrupted")
    store.take_in(requests(1))
    with Reader(store.path) as reader:
        assert [found.line for found in reader.possible_duplicates(NOW)] == [None]


def test_export_rows_come_in_the_order_of_the_latest_input(store: StoreMaker) -> None:
    store.take_in(requests(3))
    store.take_in([request("r3", 1), request("r1", 2)])
    with Reader(store.path) as reader:
        assert [row["custom_id"] for row in reader.export_rows()] == ["r3", "r1"]


def exported(store: StoreMaker) -> dict[str, tuple[str, str | None]]:
    with Reader(store.path) as reader:
        return {row["custom_id"]: (row["status"], row["text"]) for row in reader.export_rows()}


def test_an_answer_that_was_put_back_is_not_shown_until_there_is_a_new_one(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    cut = failure(ErrorClass.TRUNCATED, kept=answer("half an ans"))
    store.settle("r1", cut)
    store.settle("r2", cut)
    assert exported(store) == {"r1": ("failed", "half an ans"), "r2": ("failed", "half an ans")}
    put_back(store.conn, Selection(), at=at("11:40:00"))
    assert exported(store) == {"r1": ("pending", None), "r2": ("pending", None)}
    store.settle("r1", answer("whole"))
    store.settle("r2", failure(ErrorClass.SERVER))
    assert exported(store) == {"r1": ("succeeded", "whole"), "r2": ("failed", None)}


def test_an_answer_to_what_a_changed_line_said_before_is_not_shown(store: StoreMaker) -> None:
    store.take_in([request("r1", 1, prompt="old"), request("r2", 2)])
    store.begin()
    store.settle("r1", answer("to the old"))
    store.settle("r2", answer("untouched"))
    store.take_in([request("r1", 1, prompt="new"), request("r2", 2)], on_change="rerun")
    assert exported(store) == {"r1": ("pending", None), "r2": ("succeeded", "untouched")}
    store.settle("r1", answer("to the new"))
    assert exported(store) == {"r1": ("succeeded", "to the new"), "r2": ("succeeded", "untouched")}


def test_the_latest_answer_is_the_one_that_is_shown(store: StoreMaker) -> None:
    store.take_in(requests(1))
    store.begin()
    store.settle("r1", failure(ErrorClass.EMPTY, kept=answer("")), retry_at="11:00:04")
    store.settle("r1", answer("second"))
    assert exported(store) == {"r1": ("succeeded", "second")}


def test_damage_met_while_reading_is_a_store_error(store: StoreMaker) -> None:
    store.take_in(requests(1))
    with pytest.raises(StoreError, match="cannot be read"), Reader(store.path):
        raise sqlite3.DatabaseError("database disk image is malformed")


def test_a_reader_cannot_write(store: StoreMaker) -> None:
    store.take_in(requests(1))
    with pytest.raises(StoreError), Reader(store.path) as reader:
        reader._conn.execute("DELETE FROM requests")


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (export_sql(), "requests_line"),
        (read.METADATA, "requests_line"),
        (read.FAILED, "requests_line"),
        (read.RETRYING, "requests_due"),
        (groups.EXAMPLES, "requests_failed"),
        (read.DUPLICATES, "attempts_doubtful"),
        (read.DUPLICATES_COUNT, "attempts_doubtful"),
        (read.FINISHED_SINCE, None),
    ],
)
def test_nothing_long_is_sorted_or_held(store: StoreMaker, sql: str, index: str | None, *, analyzed: bool) -> None:
    """Flat memory: every statement that may yield a row per request walks an index or a table in its order."""
    store.take_in(requests(200))
    store.begin()
    for n in range(1, 100):
        store.settle(f"r{n}", answer() if n % 3 else failure(ErrorClass.INVALID))
    if analyzed:
        store.conn.execute("ANALYZE")
    names = ("error_class", "signature", "groups", "since", "living", "limit")
    with Reader(store.path) as reader:
        plan = [row["detail"] for row in reader._conn.execute("EXPLAIN QUERY PLAN " + sql, dict.fromkeys(names))]
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
    assert index is None or f"INDEX {index}" in plan[0], plan
    assert not [step for step in plan if step.startswith("SCAN a") and "attempts_doubtful" not in step], plan


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("name", ["SETTLED", "OPEN", "DOUBTFUL_BY_LANE"])
def test_what_was_spent_is_known_without_a_walk_along_the_attempts(
    store: StoreMaker, name: str, *, analyzed: bool
) -> None:
    store.take_in(requests(200))
    store.begin()
    for n in range(1, 100):
        store.settle(f"r{n}", answer())
    if analyzed:
        store.conn.execute("ANALYZE")
    with Reader(store.path) as reader:
        sql = "EXPLAIN QUERY PLAN " + getattr(accounts, name)
        plan = [row["detail"] for row in reader._conn.execute(sql, {"living": None} if name == "OPEN" else {})]
    walks = [step for step in plan if step.startswith("SCAN") and "attempts_doubtful" not in step]
    assert walks == (["SCAN spending"] if name == "SETTLED" else []), plan


def test_groups_are_read_where_they_are_kept_and_no_request_is(store: StoreMaker) -> None:
    store.take_in(requests(1))
    with Reader(store.path) as reader:
        params = {"error_class": None, "limit": 1}
        plan = [row["detail"] for row in reader._conn.execute("EXPLAIN QUERY PLAN " + groups.GROUPS, params)]
    assert plan[0] == "SCAN failure_groups"
    assert not [step for step in plan if "requests" in step or "GROUP BY" in step], plan


def test_a_reader_may_be_used_by_a_thread_that_did_not_open_it(store: StoreMaker) -> None:
    store.take_in(requests(2))
    seen: list[Progress] = []
    with Reader(store.path) as reader:
        thread = threading.Thread(target=lambda: seen.append(reader.progress()))
        thread.start()
        thread.join()
    assert seen[0].requests == 2
