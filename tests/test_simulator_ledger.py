"""The ledger's figures, in memory and from its file."""

import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.ledger import MESSAGES_PATH, Arrival, Ledger, read_lines

EPOCH = datetime(2026, 11, 22, tzinfo=UTC)


def arrival(number: int, body: str = "b", attempt: int = 1, *, paid: bool = True) -> Arrival:
    return Arrival(
        number,
        MESSAGES_PATH,
        body,
        attempt,
        "answered" if paid else "529",
        200 if paid else 529,
        paid,
        paid,
        "claude-x",
        3,
        5,
    )


def fill(ledger: Ledger) -> None:
    for number, body, attempt, paid in [(1, "a", 1, True), (2, "b", 1, False), (3, "b", 2, True), (4, "a", 2, True)]:
        ledger.arrive(arrival(number, body, attempt, paid=paid), number / 10)
        if number != 4:
            ledger.end(arrival(number, body, attempt, paid=paid), number / 10 + 1, 100, delivered=number != 3)
    ledger.arrive(Arrival(5, "/v1/models", "", 1, "served", 200), 0.5)
    ledger.end(arrival(4, "a", 2), 2.0, 0, delivered=False)


def test_the_figures_count_what_was_paid_and_what_was_paid_twice() -> None:
    ledger = Ledger(epoch=EPOCH)
    fill(ledger)
    summary = ledger.summary()
    assert (summary.arrivals, summary.others, summary.open, summary.accepted) == (4, 1, 0, 3)
    assert (summary.paid, summary.undelivered) == (3, 2)
    assert summary.paid_more_than_once == {"a": 2}
    assert summary.statuses == {200: 3, 529: 1}
    assert summary.actions == {"answered": 3, "529": 1}
    assert (summary.input_tokens, summary.output_tokens) == (9, 15)
    assert ledger.next_number == 6
    assert ledger.next_attempt("b") == 3
    assert ledger.next_attempt("c") == 1


def test_the_file_gives_the_same_figures(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, epoch=EPOCH) as ledger:
        fill(ledger)
        again = Ledger.read(path)
    assert again.summary() == ledger.summary()
    assert again.max_in_window(0.15) == ledger.max_in_window(0.15) == 2
    assert again.epoch == EPOCH


def test_every_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, epoch=EPOCH) as ledger:
        ledger.arrive(arrival(1), 0.25)
        (line,) = read_lines(path)
    assert line["event"] == "arrival"
    assert (line["t"], line["at"]) == (0.25, "2026-11-22T00:00:00.250000+00:00")
    assert (line["number"], line["body"], line["attempt"], line["action"], line["status"]) == (
        1,
        "b",
        1,
        "answered",
        200,
    )


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, epoch=EPOCH) as ledger:
        fill(ledger)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(list(read_lines(path))) == whole.count(b"\n") - 1
    assert Ledger.read(path).summary().open == 1


def test_a_second_server_adds_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        with Ledger(path, epoch=EPOCH) as ledger:
            fill(ledger)
    assert Ledger.read(path).summary().paid == 6
    assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.1, 9))
def test_the_fullest_window_is_found(gaps: list[float], period_s: float) -> None:
    ledger, now, instants = Ledger(epoch=EPOCH), 0.0, []
    for number, gap in enumerate(gaps, 1):
        now += gap
        instants.append(now)
        ledger.arrive(arrival(number, str(number)), now)
    fullest = max((sum(start <= instant < start + period_s for instant in instants) for start in instants), default=0)
    assert ledger.max_in_window(period_s) == fullest
