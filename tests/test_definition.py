"""Job definitions: what they may say, what is refused and how, and that flags win."""

import json
from pathlib import Path

import pytest

from batchrunner.definition import load_definition
from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.retry import Action, Wait
from batchrunner.ruling import parse_rules
from batchrunner.settings import RunSettings, changed_rule, default_rules, with_rules
from batchrunner.tomlfile.places import line_of
from running import command, job_file, rows

ROOT = Path(__file__).parent.parent
WHOLE = """
input = "data/rows.jsonl"
prompt = "Solve: {q}"
accept = ["truncated"]
[request]
model = "claude-haiku-4-5"
max_tokens = 300
stop_sequences = ["END"]
[limits]
rate = "600/10s"
concurrency = 7
[rules.server]
attempts = 9
wait = "fibo"
[export]
format = "jsonl"
columns = ["custom_id", "text"]
[run]
timeout_s = 30
drain_s = 5
progress = "plain"
"""


def definition(folder: Path, text: str, name: str = "job.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_definition_is_read(tmp_path: Path) -> None:
    found = load_definition(definition(tmp_path, WHOLE))
    assert found.input == tmp_path / "data/rows.jsonl"
    assert found.settings() == ('stop_sequences=["END"]',)
    assert found.options() == {
        "prompt": "Solve: {q}", "model": "claude-haiku-4-5", "max_tokens": 300, "drain_s": 5, "progress": "plain",
        "fmt": "jsonl", "columns": "custom_id,text",
    }  # fmt: skip
    assert found.limits_record() == {
        "rate": "600/10s", "concurrency": 7, "accept": ["truncated"], "timeout_s": 30,
        "rules": {"server": {"attempts": 9, "wait": "fibo"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "line", "said"),
    [
        ('inptu = "x"', 1, '(did you mean "input"?)'),
        ('input = ""', 1, "input must be a text that is not empty"),
        ("input = 3", 1, "not 3"),
        ('prompt = "{a.b}"', 1, "prompt is wrong"),
        ('accept = ["late"]', 1, "truncated"),
        ('accept = "truncated"', 1, "must be a list"),
        ("request = 3", 1, "must be a table"),
        ("[request]\nmax_tokns = 3", 2, '(did you mean "max_tokens"?)'),
        ("[request]\nmax_tokens = 0", 2, "request.max_tokens"),
        ("[request]\nmodel = 4", 2, "request.model is wrong: model must be a string, not an integer"),
        ("[request]\nmessages = []", 2, "messages"),
        ("[request]\nmetadata = {user_id = 2026-11-22}", 2, "a date"),
        ("[request]\ntop_p = inf", 2, "inf or nan"),
        ("[limits]\nrpm = 0", 2, "a whole number from 1"),
        ("[limits]\nrpm = true", 2, "not a boolean"),
        ("[limits]\nrpm = 5\nrate = '5/s'", 3, "keep one"),
        ("[limits]\nrate = '5'", 2, "600/10s"),
        ("[limits]\nconcurrency = 1.5", 2, "not 1.5"),
        ("[rules.servr]\nattempts = 2", 1, '(did you mean "server"?)'),
        ("[rules.server]\nattempt = 2", 2, '(did you mean "attempts"?)'),
        ("[rules.server]\naction = 'again'", 1, "retry, fail, halt"),
        ("[rules.server]\nattempts = 0", 1, "whole number from 1"),
        ("[rules.server]\nfirst_s = 90", 1, "above cap_s"),
        ("[rules.server]\ncap_s = 9999", 1, "at most 300"),
        ("[rules.truncated]\naction = 'retry'", 1, "attempts of 2 or more"),
        ("[export]\ncolumns = 'text'", 2, "list of texts"),
        ("[export]\nformat = 'xlsx'", 2, "csv, jsonl"),
        ("[export]\nflatten = 'yes'", 2, "true or false"),
        ("format = 'xml'", 1, "jsonl, csv"),
        ("[run]\nskip_invalid = 1", 2, "true or false"),
        ("[run]\nprogress = 'loud'", 2, "auto, bar"),
        ("[run]\ntimeout_s = 0", 2, "above 0"),
        ('[run]\n\n"drain_s" = -1', 3, "0 or more"),
        ('base_url = "https://relay.example"', 1, "where your key goes"),
        ('[request]\napi_key = "x"', 2, "where your key goes"),
        ('[run]\nBase-URL = "x"', 2, "where your key goes"),
        ('[run]\nallow_files = "/"', 2, "what is read from your disk"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_line_and_what_is_allowed(
    wrong: str, line: int, said: str, tmp_path: Path
) -> None:
    path = definition(tmp_path, f"{wrong}\n")
    with pytest.raises(UsageError) as caught:
        load_definition(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "not TOML"),
        ("[request]\n", "input is missing"),
        ("x" * 2_000_000, "larger than"),
        ("", "input is missing"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        load_definition(definition(tmp_path, text))


def test_a_missing_definition_names_the_verb_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batchrunner init"):
        load_definition(tmp_path / "none.toml")


def test_lines_are_found_past_texts_of_several_lines_and_quoted_keys() -> None:
    text = 'a = """\nb = 1\n"""\n["x y".z]\n# c = 3\nc = 4\nd.e = 5\n'
    assert line_of(text, ("a",)) == 1
    assert line_of(text, ("b",)) is None
    assert line_of(text, ("x y", "z", "c")) == 6
    assert line_of(text, ("x y", "z", "d", "e")) == 7
    assert line_of(text, ("x y", "z", "nowhere")) == 4


def test_a_rule_says_only_what_differs_and_survives_the_record() -> None:
    rule = changed_rule(ErrorClass.SERVER, {"first_s": 3, "wait": "fibo"})
    assert (rule.action, rule.attempts, rule.first_s, rule.wait) == (Action.RETRY, 6, 3, Wait.FIBO)
    assert changed_rule(ErrorClass.TRUNCATED, {"attempts": 2}).action is Action.RETRY
    assert changed_rule(ErrorClass.SERVER, {"attempts": 1}).action is Action.FAIL
    flags = parse_rules(["server:attempts=10,cap_s=120", "invalid:action=halt"])
    changed = with_rules(default_rules(), flags)
    record = RunSettings(rules=changed).as_record()
    assert with_rules(default_rules(), json.loads(json.dumps(record))["rules"]) == changed


@pytest.mark.parametrize("text", ["server", "server:", "servr:attempts=2", "server:tries=2", "server:attempts=two"])
def test_a_rule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        with_rules(default_rules(), parse_rules([text]))


def test_a_definition_runs_stores_beside_itself_and_every_verb_takes_it(tmp_path: Path) -> None:
    job_file(tmp_path / "data" / "rows.jsonl", [{"q": "one"}, {"q": "two", "id": "b"}])
    (tmp_path / "jobs").mkdir()
    definition(tmp_path / "jobs", WHOLE.replace("data/", "../data/"))
    done = command("run", "jobs/job.toml", "--simulate", "--max-tokens", "77", cwd=tmp_path, key=None)
    assert done.code == 0, done.stderr
    assert "at most 600/10s, at most 7 in flight" in done.stderr
    store = tmp_path / "jobs" / "job.db"
    params = [json.loads(text) for (text,) in rows(store, "SELECT params FROM inputs ORDER BY seq")]
    assert params[0]["messages"][0]["content"] == "Solve: one"
    assert {p["max_tokens"] for p in params} == {77}
    assert {tuple(p["stop_sequences"]) for p in params} == {("END",)}
    (settings,) = (json.loads(text) for (text,) in rows(store, "SELECT settings FROM runs"))
    assert settings["rules"] == {"server": {"attempts": 9, "wait": "fibo"}}
    assert settings["accept"] == ["truncated"]
    for verb in (["status"], ["errors"], ["resume"], ["retry"], ["export"]):
        again = command(*verb, "jobs/job.toml", cwd=tmp_path, key=None)
        assert again.code == 0, (verb, again.stderr)
    assert json.loads(again.stdout.splitlines()[0]).keys() == {"custom_id", "text"}
    flags = ("--rate", "100/s", "-j", "2", "--set", 'stop_sequences=["X"]', "--on-change", "rerun")
    rerun = command("run", "jobs/job.toml", "--simulate", *flags, cwd=tmp_path, key=None)
    assert "at most 100/1s, at most 2 in flight" in rerun.stderr


def test_flags_win_over_a_system_prompt_of_several_blocks(tmp_path: Path) -> None:
    job_file(tmp_path / "data" / "rows.jsonl", [{"q": "one"}])
    blocks = 'system = [{ type = "text", text = "S" }]\nstop_sequences'
    definition(tmp_path, WHOLE.replace("stop_sequences", blocks))
    done = command("run", "job.toml", "--simulate", "--system", "Be brief.", cwd=tmp_path, key=None)
    assert done.code == 0, done.stderr
    [(params,)] = rows(tmp_path / "job.db", "SELECT params FROM inputs")
    assert json.loads(params)["system"] == "Be brief."


def test_what_it_says_of_an_export_gives_way_to_flags_and_to_lines_of_a_form_of_their_own(tmp_path: Path) -> None:
    job_file(tmp_path / "data" / "rows.jsonl", [{"q": "one", "id": "a", "n,m": 1}])
    wide = WHOLE.replace('["custom_id", "text"]', '["custom_id", "n,m", "answer.x"]\nflatten = true')
    definition(tmp_path, wide + "skip_invalid = true\n")
    left = command("run", "job.toml", "--simulate", "-n", "0", "--no-skip-invalid", cwd=tmp_path, key=None)
    assert left.code == 0, left.stderr
    rows_as_told = command("export", "job.toml", cwd=tmp_path)
    assert json.loads(rows_as_told.stdout) == {"custom_id": "a", "n,m": 1, "answer.x": None}
    pending = command("export", "job.toml", "--pending", cwd=tmp_path)
    assert json.loads(pending.stdout)["custom_id"] == "a", pending.stderr
    results = command("export", "job.toml", "--format", "batch-results", cwd=tmp_path)
    assert json.loads(results.stdout)["result"] == {"type": "canceled"}
    flags = command("export", "job.toml", "--no-flatten", "--columns", "text", "--format", "csv", cwd=tmp_path)
    assert flags.stdout == 'text\n""\n'
    both = command("export", "job.toml", "--pending", "--columns", "text", cwd=tmp_path)
    assert "form of their own" in both.stderr


def test_init_writes_a_definition_that_reads_and_overwrites_nothing(tmp_path: Path) -> None:
    done = command("init", "new/job.toml", cwd=tmp_path)
    assert done.code == 0, done.stderr
    found = load_definition(tmp_path / "new" / "job.toml")
    assert found.input == tmp_path / "new" / "rows.jsonl"
    again = command("init", "new/job.toml", cwd=tmp_path)
    assert again.code == 2
    assert "is there already" in again.stderr
    assert command("init", "job.jsonl", cwd=tmp_path).code == 2


def test_every_line_that_init_comments_out_is_valid_too(tmp_path: Path) -> None:
    text = (ROOT / "batchrunner" / "definition" / "starter.toml").read_text(encoding="utf-8")
    bare = "\n".join(
        line[1:] if line.startswith("#") and line[1:2] not in {" ", ""} else line for line in text.split("\n")
    )
    found = load_definition(definition(tmp_path, bare))
    assert found.rules == {"server": {"attempts": 10, "cap_s": 120, "jitter": "full"}}
    assert found.limits == {
        "rpm": 1000,
        "itpm": 400_000,
        "otpm": 80_000,
        "concurrency": 50,
        "max_outage_s": 3600,
        "max_cost": 20,
    }
    assert set(found.run) == {
        "timeout_s",
        "drain_s",
        "durability",
        "progress",
        "halt",
        "fail_on",
        "schema",
        "max_duration",
        "dedupe",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.name)
def test_the_definitions_of_the_checkout_read(path: Path) -> None:
    assert load_definition(path).input.exists()
