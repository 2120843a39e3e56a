"""The tools of OpenAI's chat bodies: which there are, which may be called, and how a call is written."""

import re
from collections.abc import Mapping
from typing import Any

from batchrunner.jobfile.decode import parse_strictly
from batchrunner.jobfile.faults import RefusedError, kind, shown

#: The keys of a chat body that speak of tools; together they make `tools` and `tool_choice`.
KEYS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_CHOICES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}
#: What a function without parameters takes.
_NOTHING = {"type": "object", "properties": {}}


def is_function_tool(tools: Any) -> bool:
    """Whether *tools* is a list with a tool in OpenAI's form."""
    return isinstance(tools, list) and any(isinstance(tool, dict) and tool.get("type") == "function" for tool in tools)


def tool_parameters(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `tools` and the `tool_choice` that say what the *chat* body says of them; none where it says nothing."""
    tools, parallel = chat.get("tools"), chat.get("parallel_tool_calls")
    if tools is not None and not isinstance(tools, list):
        raise RefusedError(f"tools must be a list, not {kind(tools)}")
    if parallel is not None and not isinstance(parallel, bool):
        raise RefusedError(f"parallel_tool_calls must be true or false, not {kind(parallel)}")
    choice = _choice(chat.get("tool_choice"))
    if not tools:
        if choice["type"] in {"any", "tool"}:
            raise RefusedError("tool_choice asks for a call, but the body has no tools")
        return {}
    found: dict[str, Any] = {"tools": [_tool(tool, number) for number, tool in enumerate(tools, 1)]}
    if parallel is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return found if choice == {"type": "auto"} else found | {"tool_choice": choice}


def _choice(value: Any) -> dict[str, Any]:
    if value is None:
        return {"type": "auto"}
    if isinstance(value, str) and value in _CHOICES:
        return {"type": _CHOICES[value]}
    if isinstance(value, dict) and value.keys() == {"type", "function"} and value["type"] == "function":
        function = value["function"]
        if isinstance(function, dict) and function.keys() == {"name"}:
            return {"type": "tool", "name": _name(function["name"], "tool_choice")}
    said = shown(
        value if isinstance(value, str) else str(value.get("type")) if isinstance(value, dict) else kind(value)
    )
    raise RefusedError(f"tool_choice {said} has no exact counterpart: auto, none, required or one function has")


def _tool(tool: Any, number: int) -> dict[str, Any]:
    place = f"tool {number}"
    wanted = tool.get("type") if isinstance(tool, dict) else None
    function = tool.get("function") if isinstance(tool, dict) else None
    if wanted != "function" or not isinstance(function, dict) or tool.keys() != {"type", "function"}:
        raise RefusedError(f"{place}: only functions have an exact counterpart, not {shown(str(wanted))}")
    for key, value in function.items():
        if key not in {"name", "description", "parameters", "strict"} and value is not None:
            raise RefusedError(f"{place}: {shown(key)} of a function has no exact counterpart")
    found: dict[str, Any] = {"name": _name(function.get("name"), place)}
    if (description := function.get("description")) is not None:
        if not isinstance(description, str):
            raise RefusedError(f"{place}: the description must be a string, not {kind(description)}")
        found["description"] = description
    found["input_schema"] = _schema(function.get("parameters"), place)
    if (strict := function.get("strict")) not in (None, False):
        if strict is not True:
            raise RefusedError(f"{place}: strict must be true or false, not {kind(strict)}")
        found["strict"] = True
    return found


def _schema(parameters: Any, place: str) -> dict[str, Any]:
    if parameters is None or parameters == {}:
        return dict(_NOTHING)
    if not isinstance(parameters, dict) or parameters.get("type") != "object":
        raise RefusedError(f'{place}: the parameters must be a JSON schema with "type": "object"')
    return parameters


def call_block(call: Any, place: str) -> dict[str, Any]:
    """Return the tool_use block that says what an entry of `tool_calls` says."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise RefusedError(f"{place}: only calls of functions have an exact counterpart")
    if not call.keys() <= {"id", "type", "function"} or not function.keys() <= {"name", "arguments"}:
        strange = next(key for key in [*call, *function] if key not in {"id", "type", "function", "name", "arguments"})
        raise RefusedError(f"{place}: {shown(strange)} of a tool call has no exact counterpart")
    name = _name(function.get("name"), place)
    return {"type": "tool_use", "id": call_id(call.get("id"), place), "name": name, "input": _input(function, place)}


def _input(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise RefusedError(f"{place}: the arguments of a call must be a string of JSON, not {kind(arguments)}")
    try:
        value = parse_strictly(arguments)
    except RefusedError as refused:
        raise RefusedError(f"{place}: the arguments of a call cannot be read: {refused.cause}") from None
    if not isinstance(value, dict):
        raise RefusedError(f"{place}: the arguments of a call must be a JSON object, not {kind(value)}")
    return value


def call_id(value: Any, place: str) -> str:
    """Return the id of a call, which both APIs write alike."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RefusedError(f"{place}: the id of a call must be letters, digits, _ and -")
    return value


def _name(value: Any, place: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RefusedError(f"{place}: the name of a function must be 1 to 128 letters, digits, _ and -")
    return value
