"""Advice on certain messages: one row of messages per row of the data, in the forms that the API and relays use."""

import shlex

import pytest

from batchrunner.advice import ADVICE
from batchrunner.cases import CASES, Case, advice_for
from batchrunner.model import ErrorClass

_E = ErrorClass

#: Title of the case: messages that it speaks of, and messages of the same class that it must leave alone.
MESSAGES: dict[str, tuple[list[str], list[str]]] = {
    "a sampling parameter": (
        [
            "invalid_request_error: temperature: this parameter is no longer supported; remove it from the request",
            "invalid_request_error: top_p: not supported under anthropic-version 2026-10-21; remove it from the request",
            "`top_k` is deprecated for this model.",
        ],
        ["invalid_request_error: messages.0: the temperature outside is not text"],
    ),
    "max_tokens above the model's limit": (
        ["invalid_request_error: max_tokens: 999999 > 64000, which is the maximum allowed number of output tokens"],
        ["invalid_request_error: max_tokens: Input should be a valid integer"],
    ),
    "prompt and max_tokens together too long": (
        ["invalid_request_error: input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"],
        ["invalid_request_error: max_tokens: Field required"],
    ),
    "prompt too long": (
        ["invalid_request_error: prompt is too long: 250000 tokens > 200000 maximum"],
        ["invalid_request_error: messages.0: Input should be a valid dictionary"],
    ),
    "assistant prefill": (
        [
            "invalid_request_error: This model does not support assistant message prefill.",
            "invalid_request_error: The conversation must end with a user message.",
        ],
        ["invalid_request_error: messages.1.role: Input should be 'user', 'assistant' or 'system'"],
    ),
    "thinking that must be adaptive": (
        [
            'invalid_request_error: "thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'
        ],
        ["invalid_request_error: tools: feature not enabled"],
    ),
    "thinking that cannot be turned off, or not be adaptive": (
        [
            "invalid_request_error: thinking.type: disabled is not supported for this model",
            "invalid_request_error: adaptive thinking is not supported on this model: thinking.type: adaptive",
        ],
        ["invalid_request_error: this feature is disabled"],
    ),
    "a forced tool": (
        ["invalid_request_error: tool_choice: any is not supported for this model"],
        ["invalid_request_error: tools.0.name: Field required"],
    ),
    "an unknown parameter": (
        ["invalid_request_error: max_token: Extra inputs are not permitted"],
        ["invalid_request_error: metadata: Input should be a valid dictionary"],
    ),
    "an image too large": (
        [
            "invalid_request_error: messages.0.content.0.image.source.base64: image exceeds 5 MB maximum: 6 MB > 5 MB",
            "invalid_request_error: messages.0: At least one of the image dimensions exceed max allowed size: 8000 pixels",
        ],
        ["invalid_request_error: messages.0.content.0.image.source: Field required"],
    ),
    "the context window is full": (
        ["The answer was cut off (stop_reason model_context_window_exceeded); raise max_tokens or shorten the prompt."],
        ["The answer was cut off (stop_reason max_tokens); raise max_tokens or shorten the prompt."],
    ),
    "a relay without the model": (
        ["one_api_error: No available channel for model claude-haiku-4-5 under group default"],
        ["not_found_error: model: claude-unknown"],
    ),
    "a region that is not served": (
        ["forbidden: Request not allowed", "HTTP 400: Access from unsupported country"],
        ["permission_error: Your API key does not have permission to use the specified resource."],
    ),
}


def test_every_case_has_its_messages() -> None:
    assert [case.title for case in CASES] == [*MESSAGES]


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_case_is_known_by_its_message(case: Case) -> None:
    spoken_of, left_alone = MESSAGES[case.title]
    for message in spoken_of:
        advice = advice_for(case.error_class, message)
        assert advice.meaning == case.advice.meaning, message
        assert "{most}" not in advice.command_for("jobs.db", "jobs.jsonl", "--id a")
    for message in left_alone:
        assert advice_for(case.error_class, message) is ADVICE[case.error_class], message


def test_a_message_of_another_class_is_not_mistaken() -> None:
    assert advice_for(_E.SERVER, "prompt is too long: 5 tokens > 4 maximum") is ADVICE[_E.SERVER]


def test_the_models_limit_stands_in_the_command() -> None:
    message = "invalid_request_error: max_tokens: 999999 > 64000, which is the maximum"
    command = advice_for(_E.INVALID, message).command_for("jobs.db", "jobs.jsonl", "--signature 1f2e3d4c")
    assert command == "batchrunner retry jobs.db --signature 1f2e3d4c --set max_tokens=64000"


def test_what_a_server_says_cannot_get_into_a_command() -> None:
    """Only digits are taken from a message."""
    message = "max_tokens: 9 > 4;rm -rf ~, `x` {job} $(y)"
    command = advice_for(_E.INVALID, message).command_for("jobs.db", "jobs.jsonl", "--id a")
    assert shlex.split(command)[-1] == "max_tokens=4"
