"""`rules`: the table in force, from the defaults, a definition, a store and flags."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batchrunner.cli import cli
from batchrunner.model import ErrorClass
from batchrunner.settings import default_rules
from running import job_file

DEFINITION = """\
input = "jobs.jsonl"
[request]
model = "claude-haiku-4-5"
[rules.server]
attempts = 9
wait = "fibo"
jitter = "equal"
[rules.truncated]
attempts = 2
"""


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    path = tmp_path / "job.toml"
    path.write_text(DEFINITION)
    return path


def asked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def table(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    return {row.pop("class"): row for row in json.loads(asked("rules", *arguments, "--json"))}


def test_without_a_job_it_shows_the_defaults_of_every_class() -> None:
    found = table()
    assert list(found) == [str(c) for c in ErrorClass]
    for error_class, rule in default_rules().items():
        row = found[error_class]
        assert (row["action"], row["changed"]) == (str(rule.action), [])
        if rule.action == "retry":
            assert (row["first_s"], row["cap_s"], row["wait"], row["jitter"]) == (
                rule.first_s,
                rule.cap_s,
                str(rule.wait),
                str(rule.jitter),
            )
            assert row["attempts"] == (rule.attempts if rule.counted else None)
    assert found["not_found"]["lane_only"]


def test_a_definition_and_flags_change_it_key_by_key(definition: Path) -> None:
    found = table(definition, "--rule", "server:cap_s=120", "--retries", "timeout=7")
    server = found["server"]
    assert (server["attempts"], server["wait"], server["jitter"], server["cap_s"]) == (9, "fibo", "equal", 120)
    assert server["changed"] == ["attempts", "cap_s", "jitter", "wait"]
    assert (found["truncated"]["action"], found["truncated"]["attempts"]) == ("retry", 2)
    assert found["timeout"]["attempts"] == 8
    assert found["network"]["changed"] == []


def test_the_table_for_people_marks_what_is_changed(definition: Path) -> None:
    shown = asked("rules", definition).splitlines()
    assert any(line.split() == ["server", "*", "retry", "9", "fibo", "1", "s", "60", "s", "equal"] for line in shown)
    assert any(line.split() == ["not_found", "halt", "(its", "lane)"] for line in shown)
    assert any(line.startswith("rate_limited ") and "any number" in line for line in shown)
    assert "* differs from the defaults" in shown
    assert "* differs from the defaults" not in asked("rules")


def test_a_job_file_shows_the_rules_of_its_last_run(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    assert table(path)["server"]["changed"] == [], "it never ran"
    asked("run", path, "--model", "claude-haiku-4-5", "--simulate", "--retries", "server=1", "--progress", "none")
    assert table(path)["server"]["attempts"] == 2
    assert table(tmp_path / "jobs.db")["server"]["attempts"] == 2
    assert table(path, "--rule", "server:attempts=4")["server"]["attempts"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rule", "server:jitter=some"],
        ["--rule", "gremlins:attempts=3"],
        ["--retries", "server=many"],
        ["--rule", "x"],
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    from batchrunner.errors import UsageError

    with pytest.raises(UsageError):
        asked("rules", *arguments)
