"""The other designs do what they are known for, and are measured as ours is."""

from collections.abc import Iterable
from itertools import pairwise

import pytest

import designs
from batchrunner.policy.window import Rate
from virtual import Figures
from virtual.clients import Client, InSlot, client_run
from virtual.rivals import RIVALS, AwsAdaptive, FixedPause, NaiveBackoff, SdkRetries, UnpacedWindow

RATE = Rate.parse("600/min")
TIGHT = "latency=lognormal:1..10,rpm=600,bucket_s=1"


def sent_by(kind: type[Client], prompts: Iterable[str], spec: str, rate: Rate = RATE) -> Figures:
    return client_run(kind, prompts, spec, rate)


def prompts(count: int) -> list[str]:
    return [f"Question {i}." for i in range(count)]


def instants(figures: Figures) -> list[float]:
    return [one.at for one in figures.seen]


@pytest.mark.parametrize("kind", RIVALS)
def test_where_nothing_is_in_the_way_each_sends_everything_once(kind: type[Client]) -> None:
    figures = sent_by(kind, prompts(300), "latency=lognormal:1..10")
    assert figures.statuses == {200: 300}
    assert (figures.succeeded, figures.failed) == (300, 0)


@pytest.mark.parametrize("kind", RIVALS)
def test_each_run_can_be_repeated_and_accounts_for_every_row(kind: type[Client]) -> None:
    one, again = (sent_by(kind, prompts(200), TIGHT) for _ in range(2))
    assert instants(one) == instants(again)
    assert one.seconds == again.seconds
    assert one.statuses[429] > 0
    assert len(one.accepted()) == one.succeeded == 200 - one.failed


@pytest.mark.parametrize(("kind", "tries"), [(NaiveBackoff, 6), (SdkRetries, 3), (FixedPause, 5)])
def test_a_row_that_nothing_helps_is_given_up_after_so_many_tries(kind: type[Client], tries: int) -> None:
    figures = sent_by(kind, ["[[sim:529]] a", "b"], "latency=1")
    assert figures.statuses == {529: tries, 200: 1}
    assert (figures.succeeded, figures.failed) == (1, 1)


def test_the_naive_one_doubles_its_wait_and_is_deaf_to_the_server() -> None:
    at = instants(sent_by(NaiveBackoff, ["[[sim:429*5]] a"], "retry_after=30,latency=1"))
    gaps = [round(later - sooner) for sooner, later in pairwise(at)]
    assert gaps == [1, 2, 4, 8, 16]


def test_a_sleeper_in_the_slot_holds_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InSlot, "workers", 1)
    figures = sent_by(NaiveBackoff, ["[[sim:529*3]] a", "b"], "latency=1")
    assert figures.seen[-1].arrival.attempt == 1
    assert figures.seen[-1].at > 1 + 2 + 4


def test_the_sdk_heeds_the_server_up_to_a_minute() -> None:
    for asked, low, high in ((7, 7.0, 7.2), (61, 0.37, 0.63)):
        at = instants(sent_by(SdkRetries, ["[[sim:429*1]] a"], f"retry_after={asked},latency=1"))
        assert low < at[1] - at[0] < high


def test_the_fixed_pause_is_everybodys() -> None:
    rows = ["[[sim:429*1]] a", *prompts(100)]
    at = instants(sent_by(FixedPause, rows, "latency=1"))
    gap, before = max((later - sooner, i) for i, (sooner, later) in enumerate(pairwise(at)))
    assert 14.9 < gap < 15.1
    assert before < 99


def test_the_unpaced_window_sends_a_burst_and_keeps_its_limit() -> None:
    figures = sent_by(UnpacedWindow, prompts(200), "latency=1", Rate.parse("50/10s"))
    at = instants(figures)
    assert at[49] < 0.2
    assert figures.max_in_window(9.9) <= 50
    assert figures.seconds > 30


def test_the_adaptive_one_learns_to_be_slower() -> None:
    """Its requests all start at once; after the first refusals it creeps back to the rate that passed."""
    figures = sent_by(AwsAdaptive, prompts(1200), TIGHT)
    half = figures.seconds / 2
    early, late = (
        [one.arrival.status for one in figures.seen if (one.at > half) is is_late] for is_late in (False, True)
    )
    assert early.count(429) / len(early) > 3 * late.count(429) / len(late)
    assert figures.failed == 0


def test_the_table_has_a_row_for_every_design_in_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    designs.main(60, ["steady-1s"])
    head, rule, *rows = capsys.readouterr().out.splitlines()
    names = ["**batchrunner**", *(kind.name for kind in RIVALS)]
    assert [row.split(" | ")[1] for row in rows] == names
    assert {row.count("|") for row in (head, rule, *rows)} == {head.count("|")}
    ours = rows[0].strip("| ").split(" | ")
    assert ours[3:6] == ["0.00", "60", "0"]


@pytest.mark.parametrize("spec", designs.SCENARIOS.values(), ids=designs.SCENARIOS)
def test_every_scenario_is_one_that_the_simulator_knows(spec: str) -> None:
    figures = client_run(NaiveBackoff, prompts(3), spec, designs.RATE)
    assert figures.succeeded == 3
