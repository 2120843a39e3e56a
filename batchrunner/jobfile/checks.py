"""What must be true of single values before a request may cost anything; each check refuses with the reason."""

from math import inf
from typing import Any

from batchrunner.jobfile.faults import RefusedError, kind

#: Longest id of a request, in characters.
MAX_ID_CHARS = 256


def check_id(value: Any) -> str:
    """Return an id as text: a string of 1 to 256 characters, or an integer."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise RefusedError(f"the id must be a string or an integer, not {kind(value)}")
    if not 1 <= len(text) <= MAX_ID_CHARS:
        raise RefusedError(f"the id must have 1 to {MAX_ID_CHARS} characters, not {len(text):,}")
    if "\0" in text:  # SQLite's own functions and its shell take it for the end of the text.
        raise RefusedError("the id holds a NUL character")
    return text


def check_model(value: Any) -> str:
    """Return the model's name: any string that is not empty."""
    if not isinstance(value, str):
        raise RefusedError(f"model must be a string, not {kind(value)}")
    if not value or "\0" in value:
        raise RefusedError("model must not be empty" if not value else "model holds a NUL character")
    return value


def check_max_tokens(value: Any) -> int:
    """Return the most tokens an answer may have: an integer from 1."""
    if type(value) is not int:
        raise RefusedError(f"max_tokens must be an integer, not {kind(value)}")
    if value < 1:
        raise RefusedError("max_tokens must be at least 1")
    return value


def check_stream(value: Any) -> bool:
    """Return whether the answer is to be streamed: a boolean."""
    if not isinstance(value, bool):
        raise RefusedError(f"stream must be true or false, not {kind(value)}")
    return value


def check_timeout(value: Any) -> float:
    """Return a deadline in seconds: a finite number above 0."""
    if type(value) not in {int, float}:
        raise RefusedError(f"timeout_s must be a number of seconds, not {kind(value)}")
    if not 0 < value < inf:
        raise RefusedError("timeout_s must be a finite number of seconds above 0")
    try:
        return float(value)
    except OverflowError:
        raise RefusedError("timeout_s must be a finite number of seconds above 0") from None


def check_prompt(value: Any) -> str:
    """Return the prompt: a string with something to read in it, for the API takes no blank text."""
    if not isinstance(value, str):
        raise RefusedError(f"the prompt must be a string, not {kind(value)}")
    if not value or value.isspace():
        raise RefusedError("the prompt is empty")
    return value


def check_messages(value: Any) -> list[Any]:
    """Return the messages: a list, not empty, of objects with a role and a content."""
    if not isinstance(value, list):
        raise RefusedError(f"messages must be a list, not {kind(value)}")
    if not value:
        raise RefusedError("messages must not be empty")
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise RefusedError(f"message {number} must be an object with role and content, not {kind(message)}")
        if not isinstance(message.get("role"), str):
            raise RefusedError(f'message {number} needs a role, "user" or "assistant"')
        if not isinstance(message.get("content"), str | list):
            raise RefusedError(f"message {number} needs a content, a string or a list of blocks")
    return value
