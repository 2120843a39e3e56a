"""What a check finds in single requests: parameters by type and range, messages, and what a model refuses."""

from datetime import date
from typing import Any

import pytest

from batchrunner.catalogue import Model, known_models, nearest_model
from batchrunner.preflight.against_model import AgainstModel, estimated_tokens
from batchrunner.preflight.findings import KINDS_KEPT, Findings, Severity, error, note, warning
from batchrunner.preflight.parameters import check_parameters

TODAY = date(2026, 11, 22)
TOOL = {"name": "look", "input_schema": {"type": "object"}}
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}


def body(**more: Any) -> dict[str, Any]:
    hello = [{"role": "user", "content": "hello"}]
    return {"model": "claude-haiku-4-5", "max_tokens": 2048, "messages": hello, **more}


def says(*blocks: Any, role: str = "user") -> list[Any]:
    return [{"role": role, "content": list(blocks)}]


@pytest.mark.parametrize(
    "more",
    [
        {"system": "short"},
        {"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"stop_sequences": ["END"], "stream": True, "service_tier": "auto", "speed": "standard"},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"output_config": {"effort": "xhigh", "format": SCHEMA}},
        {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "auto"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
        {"metadata": {"user_id": "u"}, "cache_control": {"type": "ephemeral"}, "inference_geo": None},
        {"betas": ["files-api-2025-04-14"], "mcp_servers": []},
        {"messages": says({"type": "text", "text": "x"}, {"type": "a_block_of_tomorrow"})},
        {"messages": says({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}})},
        {"messages": says({"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}})},
        {
            "messages": [
                {"role": "user", "content": "a"},
                *says({"type": "tool_use", "id": "t", "name": "look", "input": {}}, role="assistant"),
                *says({"type": "tool_result", "tool_use_id": "t"}),
                {"role": "assistant", "content": ""},
            ]
        },
    ],
    ids="+".join,
)
def test_what_the_api_takes_is_no_fault(more: dict[str, Any]) -> None:
    assert list(check_parameters(body(**more))) == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"max_token": 1}, "unknown-parameter"),
        ({"system": None}, "null-parameter"),
        ({"system": " "}, "system"),
        ({"system": 3}, "system"),
        ({"system": [{"type": "image"}]}, "system"),
        ({"system": [{"type": "text", "text": ""}]}, "system"),
        ({"stop_sequences": "END"}, "stop-sequences"),
        ({"stop_sequences": ["\n"]}, "stop-sequences"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "deep"}}, "thinking"),
        ({"thinking": {"type": "adaptive", "display": "all"}}, "thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking-budget"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "thinking-budget"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking-budget"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "thinking-budget"),
        ({"output_config": "high"}, "output-config"),
        ({"output_config": {"effort": "huge"}}, "effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output-format"),
        ({"tools": TOOL}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools"),
        ({"tools": [{"name": "two words", "input_schema": {"type": "object"}}]}, "tools"),
        ({"tools": [{"name": "look"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool-choice"),
        ({"tool_choice": {"type": "any"}}, "tool-choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "find"}}, "tool-choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "tool-choice"),
        ({"metadata": {"user_id": 7}}, "metadata"),
        ({"metadata": {"topic": "x"}}, "metadata"),
        ({"service_tier": "priority"}, "service-tier"),
        ({"speed": "slow"}, "speed"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache-control"),
        ({"cache_control": {"type": "ephemeral", "ttl": ["1h"]}}, "cache-control"),
        ({"betas": "x"}, "betas"),
        ({"fallbacks": []}, "beta-parameter"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "message-key"),
        ({"messages": [{"role": "user", "content": " "}]}, "empty-content"),
        ({"messages": [{"role": "user", "content": []}]}, "empty-content"),
        ({"messages": says("text")}, "block"),
        ({"messages": says({"text": "x"})}, "block-type"),
        ({"messages": says({"type": "image_url"})}, "block-type"),
        ({"messages": says({"type": "text", "text": ""})}, "empty-content"),
        ({"messages": says({"type": "text"})}, "text-block"),
        ({"messages": says({"type": "text", "text": "a", "citations": [{}]})}, "citations"),
        ({"messages": says({"type": "text", "text": "a", "cache_control": {"type": "long"}})}, "cache-control"),
        ({"messages": says({"type": "image"})}, "source"),
        ({"messages": says({"type": "image", "source": {"type": "path"}})}, "source"),
        ({"messages": says({"type": "image", "source": {"type": "url", "url": "a.png"}})}, "source"),
        ({"messages": says({"type": "image", "source": {"type": "base64", "data": "x"}})}, "media-type"),
        ({"messages": says({"type": "document", "source": {"type": "base64"}})}, "source"),
        ({"messages": says({"type": "document", "source": {"type": "base64", "data": "data:x"}})}, "source"),
        ({"messages": says({"type": "tool_result"})}, "tool-result"),
        ({"messages": says({"type": "tool_use"}, role="assistant")}, "tool-use"),
        ({"messages": says({"type": "thinking"})}, "block-role"),
        ({"messages": says({"type": "document", "source": {"type": "file"}}, role="assistant")}, "block-role"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_the_api_refuses_is_found(more: dict[str, Any], code: str) -> None:
    assert {fault.code for fault in check_parameters(body(**more))} == {code}


def faults(params: dict[str, Any], tokens: int = 10, *, official: bool = True) -> list[tuple[str, str]]:
    against = AgainstModel(official, TODAY)
    return [(fault.severity.value, fault.code) for fault in against.faults(params, tokens)]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"temperature": 1.0, "top_k": 3}, [("error", "removed-parameter")] * 2),
        ({"model": "claude-haku-4-5"}, [("warning", "unknown-model")]),
        ({"model": "gpt-4o"}, [("error", "unknown-model")]),
        ({"model": "claude-3-opus-20240229"}, [("error", "retired-model")]),
        ({"model": "claude-sonnet-4-5"}, [("warning", "deprecated-model")]),
        ({"max_tokens": 64_001}, [("error", "max-tokens-above-model")]),
        ({"model": "claude-opus-5", "max_tokens": 128_000}, []),
        ({"thinking": {"type": "adaptive"}}, [("error", "thinking-of-model")]),
        ({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, [("error", "thinking-of-model")]),
        ({"model": "claude-opus-4-7", "thinking": {"type": "enabled"}}, [("error", "thinking-of-model")]),
        ({"model": "claude-opus-4-6", "thinking": {"type": "enabled"}}, []),
        ({"model": "claude-sonnet-5-5", "tool_choice": {"type": "any"}}, [("error", "forced-tools")]),
        ({"model": "claude-sonnet-4-6", "speed": "fast"}, [("warning", "speed")]),
    ],
    ids=str,
)
def test_a_request_is_held_against_its_model(more: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(body(**more)) == expected


def test_prefill_is_refused_by_models_that_refuse_it() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]
    assert faults(body(messages=messages)) == []
    assert faults(body(messages=messages, model="claude-opus-4-6")) == [("error", "prefill")]
    messages[1]["content"] = "Answer: "
    assert faults(body(messages=messages)) == [("error", "prefill")]


def test_a_prompt_that_looks_longer_than_the_window_is_doubted() -> None:
    assert faults(body(), 200_001) == [("warning", "above-context")]


def test_a_gateway_may_know_more_models_and_parameters() -> None:
    for more in ({"temperature": 0}, {"model": "gpt-4o"}, {"model": "claude-3-opus-20240229"}):
        assert [severity for severity, _ in faults(body(**more), official=False)] == ["warning"]


def test_a_deprecated_model_is_retired_once_its_day_has_come() -> None:
    model = known_models()["claude-sonnet-4-5"]
    assert model.retires is not None
    assert not model.is_retired(TODAY)
    assert model.is_retired(model.retires)


def test_pictures_do_not_count_as_text() -> None:
    data = "A" * 32_000
    picture = says({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
    assert estimated_tokens(32_320, picture) == 100
    assert estimated_tokens(320, body()["messages"]) == 100


def test_names_of_models_are_known_under_each_spelling_and_slips_are_recognised() -> None:
    models = known_models()
    assert models["claude-haiku-4-5-20251001"].max_output == models["claude-haiku-4-5"].max_output == 64_000
    assert all(isinstance(model, Model) for model in models.values())
    assert nearest_model("claude-haku-4-5") == "claude-haiku-4-5"
    assert nearest_model("gpt-4o") is None


def test_findings_stand_once_the_worst_first_with_count_and_first_lines() -> None:
    findings = Findings()
    findings.add(note("n", "noted"))
    for line in (5, 7, 9, 11):
        findings.add(warning("w", "doubtful"), line)
    findings.add(error("e", "wrong"), 3)
    assert [(f.fault.code, f.count, f.lines) for f in findings] == [("e", 1, [3]), ("w", 4, [5, 7, 9]), ("n", 0, [])]
    assert findings.number(Severity.ERROR) == 1


def test_findings_without_end_take_no_memory_without_end() -> None:
    findings = Findings()
    for number in range(KINDS_KEPT + 10):
        findings.add(error("e", f"wrong {number}"), number)
    assert len(list(findings)) == KINDS_KEPT
    assert findings.left_out == 10
