"""The models on offer, in the API's own form."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

DEFAULT_MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-sonnet-5", "claude-haiku-4-5")

_YES, _NO = {"supported": True}, {"supported": False}
_DEFAULT_PAGE, _LARGEST_PAGE = 20, 1000


def max_input_tokens(model: str) -> int:
    """The context window: 200,000 tokens for the Haiku line, a million for the others."""
    return 200_000 if model.startswith("claude-haiku") else 1_000_000


def max_output_tokens(model: str) -> int:
    """The largest `max_tokens` that *model* takes."""
    return 64_000 if model.startswith("claude-haiku") else 128_000


def model_info(model: str) -> dict[str, Any]:
    """Return the `ModelInfo` of *model*."""
    line = model.removeprefix("claude-").split("-")[0]
    return {
        "type": "model",
        "id": model,
        "display_name": " ".join(part.capitalize() for part in model.split("-")),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": line if line in {"haiku", "sonnet", "opus", "fable", "mythos"} else None,
        "max_input_tokens": max_input_tokens(model),
        "max_tokens": max_output_tokens(model),
        "capabilities": {
            "batch": _YES,
            "citations": _YES,
            "code_execution": _YES,
            "context_management": _NO,
            "effort": {**_YES, "low": _YES, "medium": _YES, "high": _YES, "max": _YES, "xhigh": _YES},
            "image_input": _YES,
            "pdf_input": _YES,
            "server_tools": {**_YES, "code_execution": _YES, "web_search": _YES},
            "structured_outputs": _YES,
            "thinking": {
                **_YES,
                "types": {"adaptive": _YES, "between_tools": _NO, "disabled": _YES, "enabled": _NO},
            },
        },
    }


def model_page(models: Sequence[str], query: str) -> dict[str, Any]:
    """Return one page of the list, as `limit`, `after_id` and `before_id` in *query* ask for it."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = min(max(int(asked["limit"]), 1), _LARGEST_PAGE) if asked.get("limit", "").isdecimal() else _DEFAULT_PAGE
    ids = list(models)
    if (after := asked.get("after_id")) in ids:
        ids = ids[ids.index(after) + 1 :]
    if (before := asked.get("before_id")) in ids:
        ids = ids[: ids.index(before)][-limit:]
    page = ids[:limit]
    return {
        "data": [model_info(model) for model in page],
        "has_more": len(ids) > len(page),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }
