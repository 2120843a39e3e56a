"""The endpoints that make no message: token counts and the list of models."""

from collections.abc import Sequence
from typing import Any

from batchrunner.simulator.catalogue import model_info, model_page
from batchrunner.simulator.checks import check_count, read_body
from batchrunner.simulator.ledger import MESSAGES_PATH
from batchrunner.simulator.replies import Rejection

_COUNT_PATH = "/v1/messages/count_tokens"
_MODELS_PATH = "/v1/models"


def answer_plain(models: Sequence[str], method: str, path: str, query: str, body: bytes) -> Rejection | dict[str, Any]:
    """Return the JSON of a request that is not `POST /v1/messages`, or why there is none."""
    if (method, path) == ("POST", _COUNT_PATH):
        return _count(body)
    if (method, path) == ("GET", _MODELS_PATH):
        return model_page(models, query)
    if method == "GET" and path.startswith(f"{_MODELS_PATH}/"):
        model = path.removeprefix(f"{_MODELS_PATH}/")
        return model_info(model) if model in models else Rejection(404, "not_found_error", f"model: {model}")
    if path in {MESSAGES_PATH, _COUNT_PATH, _MODELS_PATH}:
        return Rejection(405, "invalid_request_error", "Method Not Allowed")
    return Rejection(404, "not_found_error", "Not Found")


def _count(body: bytes) -> Rejection | dict[str, Any]:
    found = read_body(body)
    if isinstance(found, Rejection):
        return found
    params, prompt = found
    return check_count(params) or {"input_tokens": prompt.tokens}
