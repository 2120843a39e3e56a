"""What a run shows: on a terminal, in a log, to a machine, and to nobody."""

import contextlib
import json
import os
import pty
import shlex
from io import StringIO
from typing import Any

import pytest

from batchrunner.progress import Bar, JsonLines, PlainLines, SafeStream, Silent, Snapshot, reporter


def snapshot(**changes: Any) -> Snapshot:
    values = {
        "requests": 100,
        "succeeded": 40,
        "failed": 2,
        "in_flight": 7,
        "retrying": 3,
        "sent": 50,
        "retries": 5,
        "input_tokens": 1000,
        "output_tokens": 200,
    }
    return Snapshot(**(values | changes))


def test_plain_lines_are_key_value_pairs_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = StringIO()
    lines = PlainLines(out)
    lines.start(snapshot(succeeded=8))
    now += 10
    lines.tick(snapshot(succeeded=18))
    assert out.getvalue() == ""  # not yet time
    now += 20
    lines.tick(snapshot(succeeded=68))
    fields = dict(pair.split("=") for pair in out.getvalue().split())
    assert fields["event"] == "progress"
    assert fields["succeeded"] == "68"
    assert fields["rate_per_s"] == "2.0"  # 60 in 30 s
    assert fields["eta_s"] == "15"  # 30 are left
    assert fields["elapsed_s"] == "30"


def test_a_value_of_several_words_stands_in_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    out = StringIO()
    lines = PlainLines(out, every_s=0)
    lines.start(snapshot())
    monkeypatch.setattr("time.monotonic", lambda: 101.0)
    lines.tick(snapshot(held_by='output "tokens" 94 % of 400k/min'))
    words = shlex.split(out.getvalue())
    assert 'held_by=output "tokens" 94 % of 400k/min' in words
    assert all("=" in word for word in words)


def test_json_lines_are_objects_also_for_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = StringIO()
    lines = JsonLines(out)
    lines.note("a sentence")
    lines.start(snapshot())
    now += 6
    lines.tick(snapshot())
    note, tick = (json.loads(line) for line in out.getvalue().splitlines())
    assert note == {"event": "note", "text": "a sentence"}
    assert tick["event"] == "progress"
    assert tick["eta_s"] is None  # nothing became final meanwhile


def test_auto_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    controller, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            assert isinstance(reporter("auto", stream), Bar)
    finally:
        os.close(controller)
    assert isinstance(reporter("auto", StringIO()), PlainLines)


def test_the_bar_shows_what_is_in_flight_retrying_and_failed() -> None:
    out = StringIO()
    bar = Bar(out)
    bar.start(snapshot())
    bar.note("a note")
    bar.stop()
    text = out.getvalue()
    assert "42/100" in text
    assert "in flight 7, retrying 3, failed 2" in text
    assert "a note\n" in text


def test_silence_keeps_the_notes() -> None:
    out = StringIO()
    silent = Silent(out)
    silent.start(snapshot())
    silent.tick(snapshot())
    silent.note("halted")
    assert out.getvalue() == "halted\n"


def test_a_stream_whose_reader_has_gone_swallows_what_is_written() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    safe = SafeStream(stream)
    safe.write("nobody reads this\n")
    safe.flush()
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    safe.write("nor this\n")
    assert not safe.isatty()


def test_a_stream_of_few_characters_gets_escapes_instead_of_failing() -> None:
    class Ascii(StringIO):
        encoding = "ascii"

    out = Ascii()
    SafeStream(out).write("naïve 犬\n")
    assert out.getvalue() == "na\\xefve \\u72ac\n"


def test_a_paused_run_says_so_on_the_bar_and_in_a_line() -> None:
    out = StringIO()
    bar = Bar(out)
    bar.start(snapshot(paused=True))
    bar.stop()
    assert "paused, in flight 7" in out.getvalue()
    lines = PlainLines(out, every_s=0)
    lines.start(snapshot())
    lines.tick(snapshot(paused=True))
    lines.tick(snapshot())
    assert [line.split("paused=")[1].split()[0] for line in out.getvalue().splitlines()[-2:]] == ["yes", "no"]
