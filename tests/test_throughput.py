"""The benchmark of the loop measures what it says: everything is sent and answered, by ours and by its yardsticks."""

import gc

import pytest

from answering import MESSAGE, answering, two_cores
from batchrunner.api.classify import classify_message
from batchrunner.audience import OwnProcess
from batchrunner.model import Success
from loops import KEY, KINDS
from rows import bare_commits


def test_the_canned_answer_is_a_whole_message() -> None:
    assert isinstance(classify_message(200, {}, MESSAGE), Success)


@pytest.mark.parametrize("kind", ["ours", "bare", "floor"])
async def test_every_request_of_a_loop_is_answered_no_sooner_than_the_server_does(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    try:
        with answering(0.05, two_cores()[0], limits=True) as url:
            taken = await KINDS[kind](url, 60, 30)
    finally:
        gc.unfreeze()
    assert taken["seconds"] >= 2 * 0.05 * 0.9  # two rounds of thirty
    assert taken["cpu_s"] > 0


def test_the_rows_of_a_run_are_written_by_sqlite_alone() -> None:
    assert all(cpu_s > 0 and seconds > 0 for seconds, cpu_s in bare_commits(40, (10, 40)).values())


def test_what_is_loaded_when_sending_begins_is_looked_at_no_more() -> None:
    try:
        OwnProcess().began(1)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
    assert gc.get_freeze_count() == 0
