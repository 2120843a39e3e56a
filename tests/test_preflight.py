"""`check` and `models` as they are typed: all mistakes at once, nothing sent, no key shown."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from batchrunner.catalogue import known_models
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.preflight import Examination, Where, examine
from running import MODEL, command, job_file, simulator_thread

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD_KEY = "sk-ant-api03-" + "k" * 95


def look(path: Path, **where: Any) -> Examination:
    environment = where.pop("environment", {"ANTHROPIC_API_KEY": GOOD_KEY})
    source = Source(path, Defaults(model=MODEL, max_tokens=100))
    there = Where(environment, path.parent / "no-profiles", NOW, **where)
    return examine(source, path.with_suffix(".db"), there)


def codes(found: Examination) -> dict[str, list[int]]:
    return {finding.fault.code: finding.lines for finding in found.findings}


def planted() -> dict[int, tuple[Any, str]]:
    """Return 20 mistakes of different kinds: line number, line, and what is said of it."""
    ask = [{"role": "user", "content": "hello"}]
    base = {"model": MODEL, "max_tokens": 100, "messages": ask}
    tool = {"name": "look", "input_schema": {"type": "object"}}
    return {
        17: ('{"prompt": "cut', "does not end"),
        33: ({"promt": "slip"}, 'did you mean "prompt"?'),
        58: ({"prompt": "  "}, "the prompt is empty"),
        99: ({"prompt": "x", "max_tokens": "100"}, "max_tokens must be an integer"),
        140: (
            {"custom_id": "o", "method": "POST", "url": "/v1/chat/completions", "body": {"a": 1}},
            "no exact counterpart",
        ),
        187: ({"prompt": "x", "id": ""}, "the id must have"),
        201: ({"prompt": "x", "temperature": 0.5}, "removed-parameter"),
        245: ({"prompt": "x", "max_tokens": 64_001}, "max-tokens-above-model"),
        300: ({"prompt": "x", "model": "claude-haku-4-5"}, "unknown-model"),
        351: ({"prompt": "x", "model": "claude-sonnet-4-5"}, "deprecated-model"),
        400: ({"prompt": "x", "model": "claude-3-opus-20240229"}, "retired-model"),
        444: ({**base, "messages": [*ask, {"role": "assistant", "content": "{"}], "model": "claude-opus-5"}, "prefill"),
        512: ({"prompt": "x", "thinking": {"type": "enabled", "budget_tokens": 50}}, "thinking-budget"),
        567: ({"prompt": "x", "thinking": {"type": "adaptive"}}, "thinking-of-model"),
        601: ({"prompt": "x", "stop_sequences": "END"}, "stop-sequences"),
        666: ({"prompt": "x", "tools": [tool], "tool_choice": "auto"}, "tool-choice"),
        720: ({"prompt": "x", "service_tier": "fast"}, "service-tier"),
        801: ({"custom_id": "m", "params": {**base, "metadata": {"topic": "x"}}}, "metadata"),
        888: ({**base, "messages": [{"role": "narrator", "content": "be brief"}, *ask]}, "role"),
        1000: ({"id": "r1", "prompt": "another prompt"}, "id-twice"),
    }


def test_all_of_20_planted_mistakes_are_found_in_one_go_and_nothing_is_sent(tmp_path: Path) -> None:
    mistakes = planted()
    assert len(mistakes) == 20
    lines = [
        mistakes[n][0] if n in mistakes else {"id": f"r{n}", "prompt": f"question {n}"} for n in range(1, 1001)
    ]  # fmt: skip
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (tmp_path / "jobs.jsonl").write_text(text, encoding="utf-8")
    with simulator_thread() as (url, ledger):
        options = ("--model", MODEL, "--max-tokens", "9000")
        done = command("check", "jobs.jsonl", *options, "--json", url=url, cwd=tmp_path)
        screen = command("check", "jobs.jsonl", *options, url=url, cwd=tmp_path)
        assert ledger.arrivals == 0
    assert done.code == screen.code == 2, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["jobs.jsonl"]
    report = json.loads(done.stdout)
    assert report["lines"] == 1000
    assert report["bad_lines"] == len(report["bad_lines_shown"]) == 6
    found = {line: finding["code"] for finding in report["findings"] for line in finding["lines"]}
    for number, (_, said) in mistakes.items():
        shown = next((text for text in report["bad_lines_shown"] if text.startswith(f"line {number}: ")), None)
        if shown is not None:
            assert said in shown
        elif said == "id-twice":
            assert found.pop(1) == said  # the first of the two is named
        else:
            assert found.pop(number) == said
        assert shown is None or shown in screen.stdout
    assert found == {}
    assert report["errors"] + report["warnings"] == 20
    assert "nothing was sent" in screen.stdout


def test_a_good_job_passes_and_says_what_it_needs(tmp_path: Path) -> None:
    found = look(job_file(tmp_path / "jobs.jsonl", ["one", "two"]))
    report = found.as_json()
    assert (report["ok"], report["errors"], report["warnings"]) == (True, 0, 0)
    assert (report["lines"], report["requests"], report["models"]) == (2, 2, {MODEL: 2})
    assert report["max_output_tokens"] == 200
    assert 40 < report["input_tokens_estimate"] < 100
    assert report["endpoint"] == {"url": "https://api.anthropic.com", "from": "the official one", "official": True}
    assert report["store"] == {"path": str(tmp_path / "jobs.db"), "exists": False}
    assert report["disk"]["free_bytes"] > report["disk"]["needed_bytes"]


def test_bad_lines_are_all_counted_and_the_first_20_shown(tmp_path: Path) -> None:
    found = look(job_file(tmp_path / "jobs.jsonl", [{"n": i} for i in range(50)]))
    assert (found.bad_lines, len(found.shown_lines), found.errors) == (50, 20, 50)


def test_ids_are_compared_across_the_file(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "prompt": "x"},
        {"id": "a", "prompt": "y"},
        {"id": "b", "prompt": "x"},
        {"id": "b", "prompt": "x"},
        {"prompt": "z"},
        {"prompt": "z"},
        {"id": "not for batches", "prompt": "w"},
    ]
    found = look(job_file(tmp_path / "jobs.jsonl", lines))
    assert codes(found) == {
        "id-twice": [1],
        "identical-lines": [5],
        "id-repeated": [3],
        "identical-requests": [4],
        "id-not-for-batches": [7],
    }
    assert found.errors == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (GOOD_KEY, None),
        ("   ", "key-form"),
        (f'"{GOOD_KEY}"', "key-form"),
        (f"'{GOOD_KEY}'", "key-form"),
        (f"{GOOD_KEY}\n", "key-form"),
        (f"{GOOD_KEY[:50]} {GOOD_KEY[50:]}", "key-form"),
        (f"Bearer {GOOD_KEY}", "key-form"),
        (f"ANTHROPIC_API_KEY={GOOD_KEY}", "key-form"),
        (GOOD_KEY + "ü", "key-form"),
        (GOOD_KEY * 2, "key-form"),
        (GOOD_KEY[:60], "key-truncated"),
        ("sk-ant-...", "key-placeholder"),
        ("your-api-key", "key-placeholder"),
        ("sk-proj-" + "k" * 100, "key-form"),
        ("sk-ant-oat01-" + "k" * 95, "key-kind"),
        ("sk-ant-admin01-" + "k" * 95, "key-kind"),
    ],
)
def test_the_form_of_a_key_is_looked_at_and_no_part_of_it_shown(value: str, code: str | None, tmp_path: Path) -> None:
    found = look(job_file(tmp_path / "jobs.jsonl", ["one"]), environment={"ANTHROPIC_API_KEY": value})
    assert list(codes(found)) == ([code] if code else [])
    report = json.dumps(found.as_json())
    assert "kkkk" not in report
    assert "api03" not in report


@pytest.mark.parametrize(
    ("environment", "kind", "code"),
    [
        ({}, "none", "no-credential"),
        ({"ANTHROPIC_API_KEY": ""}, "none", "no-credential"),
        ({"ANTHROPIC_AUTH_TOKEN": "token-of-a-gateway"}, "auth_token", None),
        ({"ANTHROPIC_API_KEY": GOOD_KEY, "ANTHROPIC_AUTH_TOKEN": "t"}, "api_key", "two-credentials"),
        ({"ANTHROPIC_PROFILE": "work"}, "profile", "profile"),
        ({"ANTHROPIC_CONFIG_DIR": "/nowhere"}, "profile", "profile"),
        ({"ANTHROPIC_CUSTOM_HEADERS": "X-Api-Key: abc"}, "custom_headers", None),
        (
            {"ANTHROPIC_FEDERATION_RULE_ID": "r", "ANTHROPIC_ORGANIZATION_ID": "o", "ANTHROPIC_IDENTITY_TOKEN": "t"},
            "profile",
            "profile",
        ),
    ],
)
def test_the_credential_that_counts_is_named_with_the_reason(
    environment: dict[str, str], kind: str, code: str | None, tmp_path: Path
) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    found = look(path, environment=environment, profile_fault=lambda: "The profile cannot be read.")
    assert found.facts["credential"]["kind"] == kind
    assert list(codes(found)) == ([code] if code else [])


@pytest.mark.parametrize(
    ("base_url", "code"),
    [
        ("https://relay.example/api", None),
        ("http://127.0.0.1:8089", None),
        ("https://relay.example/v1", "base-url"),
        ("http://relay.example", "base-url"),
        ("https://me:secret@relay.example", "base-url"),
        ("relay.example", "base-url"),
        ("https://[broken", "base-url"),
    ],
)
def test_the_address_is_looked_at_and_a_password_in_it_not_shown(
    base_url: str, code: str | None, tmp_path: Path
) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    found = look(path, environment={"ANTHROPIC_API_KEY": "any", "ANTHROPIC_BASE_URL": base_url})
    assert list(codes(found)) == ([code] if code else [])
    assert "secret" not in json.dumps(found.as_json())


def test_proxies_are_named_without_their_passwords(tmp_path: Path) -> None:
    environment = {"ANTHROPIC_API_KEY": GOOD_KEY, "HTTPS_PROXY": "http://me:secret@proxy.example:3128"}
    found = look(job_file(tmp_path / "jobs.jsonl", ["one"]), environment=environment)
    assert found.facts["proxies"] == {"HTTPS_PROXY": "http://proxy.example:3128"}
    assert not found.errors


def _damaged(store: Path) -> None:
    store.write_bytes(b"not a database" * 100)


@pytest.mark.parametrize(("prepare", "code"), [(_damaged, "store"), (Path.mkdir, "store")])
def test_a_store_that_cannot_be_used_is_an_error(prepare: Callable[[Path], Any], code: str, tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    prepare(path.with_suffix(".db"))
    assert list(codes(look(path))) == [code]


@pytest.mark.parametrize(("text", "code"), [(None, "input"), ("", "input"), ("\n\n", "input")])
def test_an_input_that_is_none_is_an_error(text: str | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert list(codes(look(path))) == [code]


def test_simulated_and_real_answers_are_kept_apart_and_a_definition_is_checked_too(tmp_path: Path) -> None:
    job_file(tmp_path / "rows.jsonl", [{"q": "one"}])
    text = 'input = "rows.jsonl"\nprompt = "{q}"\n[request]\nmodel = "claude-haiku-4-5"\n'
    (tmp_path / "job.toml").write_text(text, encoding="utf-8")
    assert command("run", "job.toml", "--simulate", cwd=tmp_path, key=None).code == 0
    again = command("check", "job.toml", "--simulate", cwd=tmp_path, key=None)
    assert again.code == 0, again.stdout
    assert "1 succeeded, 0 failed, 0 pending (simulated)" in again.stdout
    real = command("check", "job.toml", "--json", cwd=tmp_path, key=GOOD_KEY)
    assert real.code == 2
    (finding,) = json.loads(real.stdout)["findings"]
    assert finding["code"] == "store-simulated"


def test_a_check_loads_no_sdk_and_takes_no_store(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    program = (
        "import sys\nfrom batchrunner.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    line = [sys.executable, "-c", program, "check", "jobs.jsonl", "--model", MODEL]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no credential" in done.stdout
    assert set(done.stderr.split("LOADED")[1].split()) & {"anthropic", "httpx2", "aiohttp", "pydantic", "tqdm"} == set()
    store = command("check", "jobs.db", cwd=tmp_path)
    assert store.code == 2
    assert "is a store" in store.stderr


def test_a_named_profile_that_is_missing_is_found_by_asking_the_sdk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config" / "anthropic" / "configs").mkdir(parents=True)
    done = command("check", "jobs.jsonl", "--model", MODEL, "--json", cwd=tmp_path, key=None)
    assert done.code == 2
    assert [finding["code"] for finding in json.loads(done.stdout)["findings"]] == ["profile"]


def test_models_lists_what_the_endpoint_offers_else_what_is_known(tmp_path: Path) -> None:
    offered = command("models", "--simulate", "--json", cwd=tmp_path, key=None)
    assert offered.code == 0, offered.stderr
    report = json.loads(offered.stdout)
    assert report["source"] == "endpoint"
    assert report["models"][0]["max_output"] == 128_000
    assert "thinking(adaptive|disabled)" in report["models"][0]["capabilities"]
    known = command("models", cwd=tmp_path, key=None)
    assert known.code == 0
    assert "no usable credential" in known.stderr
    assert "2026-11-30" in known.stdout


def test_models_says_so_where_the_endpoint_refuses_or_has_none(tmp_path: Path) -> None:
    with simulator_thread("key=another") as (url, _):
        refused = command("models", url=url, cwd=tmp_path)
        nowhere = command("models", url=f"{url}/elsewhere", cwd=tmp_path)
    assert refused.code == 3
    assert "does not take the credential: authentication_error: " in refused.stderr, "its words, not the SDK's"
    assert "Error code" not in refused.stderr
    assert "Traceback" not in nowhere.stderr
    assert command("models", url="http://127.0.0.1:1", cwd=tmp_path).code == 3


def test_the_packaged_table_knows_every_model_that_the_sdk_names_and_its_last_day() -> None:
    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types.model import Model

    (literal, _) = get_args(Model)
    known = known_models()
    assert set(get_args(literal)) <= set(known)
    for name, day in DEPRECATED_MODELS.items():
        last = datetime.strptime(re.sub(r"(\d+)(st|nd|rd|th)", r"\1", day), "%B %d, %Y").replace(tzinfo=UTC).date()
        assert known[name].retires == last, name
