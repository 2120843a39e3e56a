"""What must be true of the parameters of a request, by name, type and range; the model is another matter."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from batchrunner.jobfile.defaults import MESSAGES_PARAMETERS, nearest
from batchrunner.jobfile.faults import kind, shown
from batchrunner.preflight.content import check_cache_control, check_messages
from batchrunner.preflight.findings import Fault, error, warning

SAMPLING = ("temperature", "top_p", "top_k")
_BETA_ONLY = (
    "mcp_servers",
    "context_management",
    "fallbacks",
    "compaction",
    "thread",
    "billing_policy",
    "fallback_credit_token",
)
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKING = ("adaptive", "enabled", "disabled", "between_tools")
_CHOICES = ("auto", "any", "tool", "none")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_KNOWN = MESSAGES_PARAMETERS | {"betas"}


def check_parameters(params: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with *params*, the body of a request; model, max_tokens and messages are there."""
    for name, value in params.items():
        if name not in _KNOWN:
            hint = nearest(name, _KNOWN)
            yield error("unknown-parameter", f"unknown parameter {shown(name)}{hint}: the API takes no other ones")
        elif value is None and name != "inference_geo":
            yield error("null-parameter", f"{name} is null: leave it out instead")
        elif (check := _CHECKS.get(name)) is not None:
            yield from check(value, params)
    yield from check_messages(params["messages"])
    if "betas" not in params:
        for name in _BETA_ONLY:
            if name in params:
                yield warning("beta-parameter", f"{name} is a beta parameter", 'name its beta: "betas": ["..."]')


def _system(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if isinstance(value, str):
        if not value.strip():
            yield error("system", "system is empty", "leave it out instead")
    elif not isinstance(value, list):
        yield error("system", f"system must be a string or a list of text blocks, not {kind(value)}")
    elif not all(isinstance(b, dict) and b.get("type") == "text" and isinstance(b.get("text"), str) for b in value):
        yield error("system", 'each block of system must be {"type": "text", "text": "..."}')
    else:
        if not all(block["text"].strip() for block in value):
            yield error("system", "a block of system is empty")
        for block in value:
            yield from check_cache_control(block.get("cache_control"))


def _stop_sequences(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        yield error("stop-sequences", "stop_sequences must be a list of strings")
    elif not all(text.strip() for text in value):
        yield error("stop-sequences", "a stop sequence without a visible character")


def _thinking(value: Any, params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, dict) or value.get("type") not in _THINKING:
        yield error("thinking", f"thinking must be an object whose type is one of {', '.join(_THINKING)}")
        return
    budget = value.get("budget_tokens")
    if value["type"] != "enabled":
        if budget is not None:
            yield error("thinking-budget", f"budget_tokens belongs to thinking of type enabled, not {value['type']}")
    elif type(budget) is not int:
        yield error("thinking-budget", "thinking of type enabled needs budget_tokens, an integer")
    elif budget < 1024:
        yield error("thinking-budget", "budget_tokens of thinking must be at least 1,024")
    elif budget >= params["max_tokens"]:
        yield error("thinking-budget", "budget_tokens of thinking must be below max_tokens, which it is a part of")
    if value.get("display", "summarized") not in ("summarized", "omitted"):
        yield error("thinking", "display of thinking must be summarized or omitted")


def _output_config(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield error("output-config", f"output_config must be an object, not {kind(value)}")
        return
    if value.get("effort", "high") not in _EFFORTS:
        yield error("effort", f"effort in output_config must be one of {', '.join(_EFFORTS)}")
    form = value.get("format")
    if form is not None and not (
        isinstance(form, dict) and form.get("type") == "json_schema" and isinstance(form.get("schema"), dict)
    ):
        yield error("output-format", 'format in output_config must be {"type": "json_schema", "schema": {...}}')


def _tools(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        yield error("tools", "tools must be a list of objects")
        return
    names = [tool.get("name") for tool in value if isinstance(tool.get("name"), str)]
    if len(set(names)) < len(names):
        yield error("tools", "two tools have the same name")
    for tool in value:
        if tool.get("type") == "function" or "function" in tool:
            yield error("tools", "a tool in OpenAI's form", "write name, description and input_schema side by side")
        elif tool.get("type", "custom") in ("custom", None):
            yield from _custom_tool(tool)


def _custom_tool(tool: Mapping[str, Any]) -> Iterator[Fault]:
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        yield error("tools", "a tool needs a name of 1 to 128 letters, digits, _ and -")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield error("tools", 'a tool needs an input_schema, a JSON schema with "type": "object"')


def _tool_choice(value: Any, params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, dict) or value.get("type") not in _CHOICES:
        said = 'tool_choice must be an object such as {"type": "auto"}; types: ' + ", ".join(_CHOICES)
        yield error("tool-choice", said)
        return
    tools = params.get("tools")
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if value["type"] in {"any", "tool"} and not names:
        yield error("tool-choice", f"tool_choice {value['type']} without tools")
    elif value["type"] == "tool" and value.get("name") not in names:
        yield error("tool-choice", "tool_choice names a tool that is not in tools")
    if not isinstance(value.get("disable_parallel_tool_use", False), bool):
        yield error("tool-choice", "disable_parallel_tool_use must be true or false")


def _metadata(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, dict) or not isinstance(value.get("user_id"), str | None):
        yield error("metadata", 'metadata of a request must be {"user_id": "..."}')
    elif value.keys() - {"user_id"}:
        yield error(
            "metadata", "metadata of a request takes user_id alone", 'columns of your own stand beside "params"'
        )


def _betas(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        yield error("betas", "betas must be a list of names")


def _cache_control(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
    yield from check_cache_control(value)


def _one_of(name: str, *words: str) -> Callable[[Any, Mapping[str, Any]], Iterator[Fault]]:
    def check(value: Any, _params: Mapping[str, Any]) -> Iterator[Fault]:
        if value not in words:
            yield error(name.replace("_", "-"), f"{name} must be {' or '.join(words)}")

    return check


_CHECKS: dict[str, Callable[[Any, Mapping[str, Any]], Iterator[Fault]]] = {
    "system": _system,
    "stop_sequences": _stop_sequences,
    "thinking": _thinking,
    "output_config": _output_config,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "metadata": _metadata,
    "service_tier": _one_of("service_tier", "auto", "standard_only"),
    "speed": _one_of("speed", "standard", "fast"),
    "cache_control": _cache_control,
    "betas": _betas,
}
