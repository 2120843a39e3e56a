"""The running verbs as they are typed: what they say, remember and refuse."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from running import MODEL, command, job_file, rows


def test_a_machine_gets_json_lines_with_a_whole_end(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one", "[[sim:400]] two"])
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "--progress", "json", cwd=tmp_path)
    assert done.code == 1
    assert done.stdout == ""
    *_, end = (json.loads(line) for line in done.stderr.splitlines())
    assert end["event"] == "end"
    assert end["exit_code"] == 1
    assert (end["requests"], end["succeeded"], end["failed"], end["pending"]) == (2, 1, 1, 0)
    assert end["failures"] == {"invalid": 1}


def test_resume_and_retry_remember_the_limits_and_the_simulator(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "[[sim:500*2]] two", "three"])
    options = ("--rate", "50/1s", "-j", "3", "--retries", "server=0", "-n", "2")
    first = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", *options, cwd=tmp_path)
    assert first.code == 1, first.stderr
    second = command("resume", "jobs.jsonl", cwd=tmp_path, key=None)
    assert second.code == 1, second.stderr
    assert "at most 50/1s, at most 3 in flight" in second.stderr
    third = command("retry", "jobs.jsonl", "--retries", "server=3", cwd=tmp_path, key=None)
    assert third.code == 0, third.stderr
    assert "1 failed request is tried again" in third.stderr
    settings = [json.loads(text) for (text,) in rows(path.with_suffix(".db"), "SELECT settings FROM runs ORDER BY id")]
    assert [s["endpoint"] for s in settings] == ["simulator"] * 3
    assert settings[2]["rate"] == settings[0]["rate"] == "50/1s"


def test_a_run_on_the_way_back_to_the_real_endpoint_is_refused(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    assert command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path).code == 0
    done = command("run", "jobs.jsonl", "--model", MODEL, url="http://127.0.0.1:1", cwd=tmp_path)
    assert done.code == 2
    assert "simulated answers" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run", "missing.jsonl"], 2, "missing.jsonl: no such file"),
        (["run", "."], 2, "directory"),
        (["run", "jobs.jsonl"], 2, "no model: give --model"),
        (["run", "jobs.jsonl", "--rpm", "5", "--rate", "5/s"], 2, "--rpm or --rate"),
        (["run", "jobs.jsonl", "--rate", "5"], 2, "600/10s"),
        (["run", "jobs.jsonl", "--prompt", "{a.b}"], 2, "{"),
        (["run", "jobs.jsonl", "--retries", "servre=3"], 2, "CLASS=N"),
        (["run", "jobs.jsonl", "--accept", "everything"], 2, "truncated"),
        (["run", "jobs.jsonl", "--simulate-with", "latency=fast"], 2, "latency"),
        (["run", "jobs.jsonl", "--model", MODEL], 3, "ANTHROPIC_API_KEY"),
        (["run", "jobs.jsonl", "--model", MODEL, "--base-url", "http://example.org"], 2, "https"),
        (["resume", "jobs.jsonl"], 2, "no store"),
        (["retry", "jobs.jsonl", "--all", "--id", "x"], 2, "--all"),
        (["run", "jobs.jsonl", "--frobnicate"], 2, "--frobnicate"),
        (["run", "jobs.jsonl", "--set", "top"], 2, "such as max_tokens=2000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_a_sentence_and_leaves_nothing_behind(
    args: list[str], code: int, said: str, tmp_path: Path
) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    done = command(*args, cwd=tmp_path, key=None)
    assert done.code == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if code == 2 and "--base-url" not in args:  # the address is looked at when the lines are stored
        assert [file.name for file in tmp_path.iterdir()] == ["jobs.jsonl"]


def test_the_list_of_verbs_fits_a_screen_in_whole_sentences(tmp_path: Path) -> None:
    listed = command("--help", cwd=tmp_path).stdout.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len({line.split()[0] for line in listed}) >= 17
    assert all(len(line) <= 80 and line.endswith(".") and not line.endswith("...") for line in listed)


def test_a_verb_that_goes_on_does_not_promise_the_limits_of_a_first_run(tmp_path: Path) -> None:
    for verb in ("resume", "retry"):
        said = " ".join(command(verb, "--help", cwd=tmp_path).stdout.split())
        assert said.count("[default: as in the last run]") == 4
        assert "by the headers]" not in said
    assert "by the headers]" in " ".join(command("run", "--help", cwd=tmp_path).stdout.split())


@pytest.mark.parametrize("name", ["jobs.xls", "jobs"])
def test_a_file_whose_suffix_says_nothing_and_that_is_no_json_is_told_how_else_it_could_be_read(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("id,q\na,one\n", encoding="utf-8")
    done = command("run", name, "--prompt", "{q}", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 2
    assert f"{name} was read as JSON lines" in done.stderr
    assert "--format csv" in done.stderr


def test_bad_lines_of_a_file_that_is_json_lines_by_its_name_are_not_put_down_to_the_format(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("id,q\na,one\n", encoding="utf-8")
    done = command("run", "jobs.jsonl", "--prompt", "{q}", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 2
    assert "--format" not in done.stderr


def test_an_empty_job_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("\n", encoding="utf-8")
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 0
    assert "jobs.jsonl holds no requests" in done.stderr


def test_a_job_file_beside_another_one_of_its_name_is_told_whose_the_store_is(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    (tmp_path / "jobs.txt").write_text("two\n", encoding="utf-8")
    assert command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path).code == 0
    done = command("run", "jobs.txt", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 2
    assert f"The store {tmp_path / 'jobs.db'} holds the answers of" in done.stderr


def test_bad_lines_that_were_just_recorded_do_not_count_as_done_before(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('"one"\nnonsense\n"two"\n', encoding="utf-8")
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "--skip-invalid", cwd=tmp_path)
    assert done.code == 1
    assert "jobs.db: 3 requests, 2 to send;" in done.stderr
    again = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "--skip-invalid", cwd=tmp_path)
    assert "to send" not in again.stderr.partition("nothing was left")[0]


def test_an_unusable_store_is_left_as_it_is(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    store = tmp_path / "jobs.db"
    store.write_bytes(b"not a database" * 100)
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 5
    assert "jobs.db is not a SQLite file" in done.stderr
    assert store.read_bytes() == b"not a database" * 100


@pytest.mark.parametrize("setting", ["max_tokens=abc", "max_tokens=null", "max_tokens=0", "model=5", "stream=maybe"])
def test_a_patch_that_could_never_be_sent_is_refused_before_it_is_stored(tmp_path: Path, setting: str) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:400]] one"])
    command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path)
    done = command("retry", "jobs.jsonl", "--all", "--set", setting, cwd=tmp_path)
    assert done.code == 2, done.stderr
    assert setting.partition("=")[0] in done.stderr
    assert rows(path.with_suffix(".db"), "SELECT * FROM overrides") == []


def test_half_characters_are_replaced_on_request(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "a\\ud800b"}\n')
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "--surrogates", "replace", cwd=tmp_path)
    assert done.code == 0, done.stderr


def test_a_store_in_a_foreign_transaction_is_no_bug_of_ours(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "-n", "1", cwd=tmp_path)
    with contextlib.closing(sqlite3.connect(path.with_suffix(".db"), isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert done.code == 5, done.stderr
    assert "is locked by another program" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("exprot", "No such command 'exprot'. Did you mean 'export'?"),
        ("jobs.jsonl", "No such command 'jobs.jsonl'. Did you mean 'run jobs.jsonl'?"),
        ("quatsch", "No such command 'quatsch'.\n"),
    ],
)
def test_a_verb_that_is_none_is_told_what_may_be_meant(typed: str, said: str, tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    done = command(typed, cwd=tmp_path)
    assert done.code == 2
    assert said in done.stderr


def test_a_changed_line_without_an_answer_takes_its_new_form_and_that_is_said(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    assert command("run", "jobs.jsonl", "--model", MODEL, "--simulate", "-n", "1", cwd=tmp_path).code == 0
    job_file(tmp_path / "jobs.jsonl", ["one", "zwei"])
    done = command("run", "jobs.jsonl", "--model", MODEL, "--simulate", cwd=tmp_path)
    assert "changed lines that had no answer, taken in their new form: 1\n" in done.stderr
    [(params,)] = rows(tmp_path / "jobs.db", "SELECT params FROM inputs WHERE seq = 2")
    assert json.loads(params)["messages"][0]["content"] == "zwei"
