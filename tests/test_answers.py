"""Answers that look like success: what they amount to, against which schema, and what a run makes of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass, Failure, Outcome, Success
from batchrunner.policy import schemas
from batchrunner.policy.answers import ACCEPTABLE, judge
from batchrunner.policy.schemas import check_schema, misfit, schema_asked
from batchrunner.ruling import read_schema
from batchrunner.settings import RunSettings, parse_accept
from builders import body, success
from running import KEY, job_file, rows, run_job, simulator

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def asking(schema: Any) -> str:
    return json.dumps(body(output_config={"format": {"type": "json_schema", "schema": schema}}))


def class_of(outcome: Outcome) -> ErrorClass | None:
    return outcome.error_class if isinstance(outcome, Failure) else None


@pytest.mark.parametrize("text", ["", "Let me look"])
def test_a_paused_turn_is_no_answer_unless_it_is_accepted(text: str) -> None:
    answer = success(text, stop_reason="pause_turn")
    outcome = judge(answer)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.answer) == (ErrorClass.PAUSED, answer)
    assert judge(answer, {ErrorClass.PAUSED}) is answer


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "Ada", "age": 36}', None),
        (' {"name": "Ada"}\n', None),
        ("Ada", "it is not JSON"),
        ('```json\n{"name": "Ada"}\n```', "it is not JSON"),
        ('{"name": NaN}', "it is not JSON"),
        ('{"name": "Ada"', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", '$ breaks type: "object"'),
        ('{"name": 3}', '$.name breaks type: "string"'),
        ('{"name": "Ada", "age": -1}', "$.age breaks minimum: 0"),
        ("{}", '$ breaks required: ["name"]'),
        ('{"name": "Ada", "x": 1}', "$ breaks additionalProperties: false"),
    ],
)
def test_a_finished_answer_must_fit_the_schema_asked_for(text: str, fault: str | None) -> None:
    for outcome in (
        judge(success(text), params=asking(PERSON)),
        judge(success(text, stop_reason="stop_sequence"), schema=json.dumps(PERSON)),
    ):
        assert class_of(outcome) is (None if fault is None else ErrorClass.SCHEMA)
        if fault is not None:
            assert isinstance(outcome, Failure)
            assert outcome.message == f"The answer does not match the schema: {fault}."
            assert outcome.answer is not None


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("max_tokens", ErrorClass.TRUNCATED),
        ("refusal", ErrorClass.REFUSED),
        ("pause_turn", ErrorClass.PAUSED),
        ("tool_use", None),
        ("a_reason_of_tomorrow", None),
    ],
)
def test_an_unfinished_answer_need_not_fit(stop_reason: str, expected: ErrorClass | None) -> None:
    assert class_of(judge(success("Ad", stop_reason=stop_reason), params=asking(PERSON))) is expected
    accepted = judge(success("Ad", stop_reason=stop_reason), set(ACCEPTABLE), params=asking(PERSON))
    assert isinstance(accepted, Success)


def test_the_schema_of_the_request_and_that_of_the_run_both_count() -> None:
    anything = json.dumps({"type": "object"})
    assert class_of(judge(success('{"age": 1}'), params=asking(PERSON), schema=anything)) is ErrorClass.SCHEMA
    assert class_of(judge(success("[]"), params=asking({"type": "array"}), schema=anything)) is ErrorClass.SCHEMA
    assert class_of(judge(success('{"name": "a"}'), params=asking(PERSON), schema=anything)) is None


@pytest.mark.parametrize(
    "params",
    [
        json.dumps(body()),
        json.dumps(body('say "output_config": {"format": {"type": "json_schema"}}')),
        json.dumps(body(output_config={"effort": "low"})),
        json.dumps(body(output_config={"format": {"type": "json_schema", "schema": "no"}})),
        json.dumps(body(output_config={"format": {"type": "of_tomorrow", "schema": PERSON}})),
        json.dumps(body(output_config=None)),
        '"output_config"',
        '[["output_config"]]',
        '{"output_config',
    ],
)
def test_who_asks_for_no_schema_is_held_to_none(params: str) -> None:
    assert schema_asked(params) is None
    assert class_of(judge(success("prose"), params=params)) is None


@pytest.mark.parametrize("no", [{"type": "of tomorrow"}, {"required": 3}, 3, None, []])
def test_what_is_no_schema_is_refused_before_the_run(no: Any) -> None:
    with pytest.raises(UsageError, match="schema"):
        check_schema(no)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://127.0.0.1:1/never-fetched.json"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "of tomorrow"},
        {"pattern": "("},
    ],
)
def test_a_schema_that_cannot_be_used_fails_the_request_and_nothing_else(schema: Any) -> None:
    fault = misfit('"x"', json.dumps(schema))
    assert fault is not None
    assert "cannot be used" in fault


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), st.text())
@settings(max_examples=200, deadline=None)
def test_no_schema_and_no_text_raise(keyword: Any, text: str) -> None:
    for name in ("type", "properties", "required", "enum", "items", "$ref", "pattern", "allOf"):
        for said in (text, json.dumps(text), "{}", "[[]]", "3"):
            fault = misfit(said, json.dumps({name: keyword}))
            assert fault is None or fault


def test_words_of_the_answer_are_not_repeated_so_that_alike_failures_stay_together() -> None:
    faults = {misfit(json.dumps({"name": [secret]}), json.dumps(PERSON)) for secret in ("Ada", "Grace")}
    assert faults == {'$.name breaks type: "string"'}


# Without the extra.


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Any:
    schemas._check.cache_clear()
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    yield
    schemas._check.cache_clear()


@pytest.mark.parametrize(
    ("kind", "fitting", "unfit"),
    [
        ("object", "{}", "[]"),
        ("array", "[1]", "1"),
        ("string", '"x"', "x"),
        ("integer", "3.0", "3.5"),
        ("number", "3.5", "true"),
        ("boolean", "false", "0"),
        ("null", "null", "{}"),
        (["array", "null"], "null", "{}"),
        ("of tomorrow", "[]", "prose"),
        (None, "[]", "prose"),
    ],
)
@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_the_kind_of_value_is_checked(kind: Any, fitting: str, unfit: str) -> None:
    schema = {"type": kind, "required": ["what nobody looks at"]} if kind else {"required": ["x"]}
    assert class_of(judge(success(fitting), params=asking(schema))) is None
    assert class_of(judge(success(unfit), params=asking(schema))) is ErrorClass.SCHEMA


def test_with_the_extra_every_kind_is_checked_as_without() -> None:
    for text in ("3.0", "true", "3", "null", '"x"'):
        for kind in ("object", "array", "string", "integer", "number", "boolean", "null"):
            schema = json.dumps({"type": kind})
            assert misfit(text, schema) == schemas._kind_only({"type": kind})(json.loads(text))


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_a_schema_of_the_run_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text("{}")
    with pytest.raises(UsageError, match=r"pip install 'batchrunner\[schema\]'"):
        read_schema(path)


def test_jsonschema_is_loaded_only_by_who_needs_it() -> None:
    program = "import sys\nimport batchrunner.policy.judge, batchrunner.settings\nprint('jsonschema' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


# In a run.


async def test_a_run_keeps_such_answers_and_their_cost_and_counts_them_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    config = {"format": {"type": "json_schema", "schema": PERSON}}
    lines = [
        {"id": name, "prompt": f"{mark} {name}", "output_config": config}
        for name, mark in {
            "good": "",
            "unfit": "[[sim:unfit]]",
            "paused": "[[sim:pause]]",
            "cut": "[[sim:truncate]]",
        }.items()
    ]
    path = job_file(tmp_path / "jobs.jsonl", lines)
    async with simulator() as (url, _):
        report = await run_job(path, url)
        assert report.exit_code == Exit.SOME_FAILED
        found = dict(rows(path.with_suffix(".db"), "SELECT custom_id, error_class FROM requests"))
        assert found == {"good": None, "unfit": "schema", "paused": "paused", "cut": "truncated"}
        kept = rows(
            path.with_suffix(".db"),
            "SELECT q.custom_id FROM results r JOIN requests q USING (seq) JOIN attempts a USING (seq, number) "
            "WHERE r.text <> '' AND a.output_tokens > 0",
        )
        assert {name for (name,) in kept} == set(found)
        other = job_file(tmp_path / "other.jsonl", lines)
        report = await run_job(other, url, RunSettings(accept=parse_accept(["truncated,paused", "schema"])))
        assert report.exit_code == Exit.OK


async def test_a_schema_of_the_run_holds_for_every_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    path = job_file(
        tmp_path / "jobs.jsonl",
        [
            "Prose",
            {"id": "json", "prompt": "JSON", "output_config": {"format": {"type": "json_schema", "schema": PERSON}}},
        ],
    )
    async with simulator() as (url, _):
        report = await run_job(path, url, RunSettings(schema=PERSON))
    assert (report.totals.succeeded, report.totals.failed) == (1, 1)
    assert rows(path.with_suffix(".db"), "SELECT json_extract(settings, '$.schema.required[0]') FROM runs") == [
        ("name",)
    ]
