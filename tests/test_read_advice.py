import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from batchrunner.advice import ADVICE, Advice, export_command
from batchrunner.cases import CASES
from batchrunner.cli import cli
from batchrunner.cli.names import Names
from batchrunner.cli.selecting import selection_of
from batchrunner.jobfile.defaults import MESSAGES_PARAMETERS
from batchrunner.model import ErrorClass
from batchrunner.report import Report, closing
from batchrunner.store.found import Job
from batchrunner.store.selection import Totals
from store_helpers import building, report, requests

JOB, INPUT = "'my jobs.db'", "'my jobs.jsonl' --db 'my jobs.db'"
FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)(?: ([a-z]+))?")


def verb(name: str) -> click.Command:
    command = cli.get_command(cli.make_context("batchrunner", [], resilient_parsing=True), name)
    assert command is not None, f"there is no verb {name}"
    return command


def parsed(command: str) -> click.Context:
    """Parse *command* with the verb it names; unknown flags and values raise."""
    program, name, *arguments = shlex.split(command, comments=True)
    assert program == "batchrunner"
    return verb(name).make_context(name, arguments)


def flags(name: str) -> set[str]:
    return {flag for option in verb(name).params for flag in option.opts}


#: Everything that is advised: by class, and by what a message says.
ALL_ADVICE = {**{str(name): advice for name, advice in ADVICE.items()}, **{case.title: case.advice for case in CASES}}


@pytest.mark.parametrize(("which", "named"), [("--class server", ("server",)), ("--signature 1f2e3d4c", ())])
@pytest.mark.parametrize("advice", ALL_ADVICE.values(), ids=[*ALL_ADVICE])
def test_the_command_that_mends_failures_is_one_that_exists(advice: Advice, which: str, named: tuple[str, ...]) -> None:
    context = parsed(replace(advice, command=advice.command.replace("{most}", "64000")).command_for(JOB, INPUT, which))
    if context.info_name == "retry":
        assert context.params["jobfile"] == Path("my jobs.db")
        assert context.params["classes"] == named
        assert context.params["signatures"] == (() if named else ("1f2e3d4c",))
        assert selection_of(context.params).patch.keys() <= MESSAGES_PARAMETERS
    else:
        assert context.info_name == "run"
        assert (context.params["jobfile"], context.params["db"]) == (Path("my jobs.jsonl"), Path("my jobs.db"))
        assert context.params["on_change"] is None, "what was answered must stay protected"


def test_every_error_class_has_its_advice() -> None:
    assert set(ADVICE) == set(ErrorClass)


@pytest.mark.parametrize("advice", ALL_ADVICE.values(), ids=[*ALL_ADVICE])
def test_advice_is_a_sentence_with_causes_to_check_and_a_remedy(advice: Advice) -> None:
    assert advice.causes
    for sentence in (advice.meaning, advice.remedy, *advice.causes):
        assert sentence.endswith("."), sentence
    assert ". " not in advice.meaning.rstrip("."), "what it means is one sentence"


@pytest.mark.parametrize("advice", ALL_ADVICE.values(), ids=[*ALL_ADVICE])
def test_verbs_that_a_cause_speaks_of_exist_and_take_the_flags_it_names(advice: Advice) -> None:
    for sentence in advice.causes:
        for name in re.findall(r"`batchrunner (\w+)`", sentence):
            verb(name)
        for flag in re.findall(r"\(retry (--[a-z-]+)", sentence):
            assert flag in flags("retry")
        for flag in re.findall(r"(?<![\w-])--[a-z-]+", sentence):
            assert flag in flags("run") | flags("retry"), flag


@pytest.mark.parametrize("advice", ALL_ADVICE.values(), ids=[*ALL_ADVICE])
def test_flags_that_a_remedy_speaks_of_are_flags_of_its_command(advice: Advice) -> None:
    name = shlex.split(advice.command)[1]
    for flag, value in FLAG.findall(f"{advice.meaning} {advice.remedy}"):
        assert flag in flags(name), f"{name} has no {flag}"
        if flag == "--accept":
            assert value in set(ErrorClass)


@pytest.mark.parametrize("state", ["pending", "failed", "succeeded"])
def test_what_status_and_a_run_say_comes_next_exists(state: str, tmp_path: Path) -> None:
    path = tmp_path / "my jobs.db"
    with building(path) as store:
        store.take_in(requests(3))
        store.conn.execute(f"UPDATE job SET {state} = 3" if state != "pending" else "SELECT 1")
        said = report("status", path)["next"]
    totals = Totals(3, 3, 0) if state == "succeeded" else Totals(3, 0, 3 if state == "failed" else 0)
    end = closing(Report(totals=totals), str(path)).splitlines()
    said += [line.removeprefix("next:").strip() for line in end if "batchrunner " in line]
    assert len(said) >= 2
    for command in said:
        assert parsed(command).params["jobfile"] == path


def test_a_run_and_status_suggest_the_same_export(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    with building(path.with_suffix(".db")) as store:
        store.take_in(requests(1))
        store.conn.execute("UPDATE job SET succeeded = 1")
        (command,) = report("status", path)["next"]
    assert command == f"batchrunner export {path} -o jobs-results.csv"
    assert command in closing(Report(totals=Totals(1, 1, 0)), str(path))


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.jsonl", "jobs.db", "my jobs.csv", "jobs.tar.csv", "-x.csv"])
def test_the_suggested_export_is_never_the_job_file(name: str) -> None:
    suggested = parsed(export_command("./job", Path(name).with_suffix(".db"))).params["output"]
    assert suggested.suffix == ".csv"
    assert suggested != Path(name)


DEFAULTS = '{"model": null, "max_tokens": null, "system": null, "extra": {}, "prompt": null, "surrogates": "refuse"}'


def test_a_job_named_by_its_store_is_run_by_its_job_file(tmp_path: Path) -> None:
    store, source = tmp_path / "jobs.db", tmp_path / "jobs.jsonl"
    job = Job(str(source), simulated=False, defaults=DEFAULTS, created_at="", import_completed_at="")
    assert Names.of(store, None, job) == Names(str(store), str(source))
    elsewhere = tmp_path / "elsewhere.db"
    assert Names.of(elsewhere, None, job) == Names(str(elsewhere), f"{source} --db {elsewhere}")
    assert Names.of(source, elsewhere, job) == Names(*[f"{source} --db {elsewhere}"] * 2)


def test_a_job_is_run_again_with_the_options_its_lines_were_read_with() -> None:
    shape = {"model": "m", "max_tokens": 300, "system": None, "extra": {"stop_sequences": ["a b"]}, "prompt": "Q: {q}"}
    defaults = json.dumps(shape | {"surrogates": "replace"})
    job = Job("jobs.jsonl", simulated=True, defaults=defaults, created_at="", import_completed_at="")
    words = shlex.split(Names.of(Path("jobs.jsonl"), None, job).input)
    assert words == [
        *("jobs.jsonl", "--prompt", "Q: {q}", "--model", "m", "--max-tokens", "300"),
        *("--set", 'stop_sequences=["a b"]', "--surrogates", "replace", "--simulate"),
    ]
