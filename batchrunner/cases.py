"""Failures that are known better than by their class: what a certain message means, and the command for just that."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchrunner.advice import ADVICE, RERUN, RUN_AGAIN, Advice, again
from batchrunner.model import ErrorClass


@dataclass(frozen=True, slots=True)
class Case:
    """One row: which failures it speaks of, and what to say of them in place of what is said of their class."""

    title: str  #: In a few words, for the documentation.
    error_class: ErrorClass
    pattern: re.Pattern[
        str
    ]  #: Found in the message, whatever the case. What it names stands in the command as `{name}`.
    advice: Advice

    def advice_for(self, message: str) -> Advice | None:
        """Return what to say of a failure with this *message*; None if this row does not speak of it."""
        found = self.pattern.search(message)
        return found and replace(self.advice, command=_filled(self.advice.command, found.groupdict()))


def _filled(command: str, found: Mapping[str, str]) -> str:
    for name, value in found.items():
        command = command.replace(f"{{{name}}}", value)
    return command


def _about(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_E = ErrorClass

#: Read from top to bottom; the first row that fits decides. What a pattern names must be safe in a shell: digits.
CASES: tuple[Case, ...] = (
    Case(
        "a sampling parameter",
        _E.INVALID,
        _about(r"^(?:\w+: )?`?(?:temperature|top_p|top_k)\b"),
        Advice(
            "A sampling parameter is set, which the API refuses in its present version.",
            "Take the sampling parameters out.",
            again(" --set temperature=null --set top_p=null --set top_k=null"),
            (
                "Since version 2026-10-21 the API refuses temperature, top_p and top_k, at their default values too.",
                "Models from 4.7 on refuse other values than the default under any version.",
                "A default (--set, a definition) fills it in: take it out there, too, for the next lines.",
            ),
        ),
    ),
    Case(
        "max_tokens above the model's limit",
        _E.INVALID,
        _about(r"max_tokens: \d+ > (?P<most>\d+)"),
        Advice(
            "max_tokens is more than this model writes at most.",
            "Ask for no more than the model's limit.",
            again(" --set max_tokens={most}"),
            (
                "The lines, or --max-tokens, were written for another model: `batchrunner models` shows the limits.",
                "Another model writes more (retry --model).",
            ),
        ),
    ),
    Case(
        "prompt and max_tokens together too long",
        _E.INVALID,
        _about(r"input length and `?max_tokens`? exceed"),
        Advice(
            "Prompt and max_tokens together are more than the model's context window.",
            "Ask for shorter answers.",
            again(" --set max_tokens=4096"),
            (
                "max_tokens is set high out of habit; it must fit beside the prompt.",
                "The prompt is too long: shorten the lines in the job file and run it again.",
            ),
        ),
    ),
    Case(
        "prompt too long",
        _E.INVALID,
        _about(r"prompt is too long"),
        Advice(
            "The prompt alone is longer than the model's context window.",
            f"Shorten these lines of the job file, then {RUN_AGAIN}",
            RERUN,
            (
                "A document or a table in the line is longer than thought: `batchrunner check` estimates tokens.",
                "The text is repeated, or put together by mistake from whole files.",
                "Another model has a larger window: `batchrunner models` shows them (retry --model).",
            ),
        ),
    ),
    Case(
        "assistant prefill",
        _E.INVALID,
        _about(r"prefill|conversation must end with a user"),
        Advice(
            "The last message is the assistant's, a prefill, which models from 4.6 on refuse.",
            f"Let these lines end with a message of the user, then {RUN_AGAIN}",
            RERUN,
            (
                "The lines were written for an older model, to begin its answer.",
                "What the prefill was to bring about, the form of the answer, is said in the prompt or by output_config.format.",
            ),
        ),
    ),
    Case(
        "thinking that must be adaptive",
        _E.INVALID,
        _about(r"thinking\b.*\benabled\b"),
        Advice(
            "Models from 4.7 on decide by themselves how long they think, and refuse a fixed budget.",
            "Let the model decide.",
            again(' --set \'thinking={{"type":"adaptive"}}\''),
            ("thinking.type is enabled, as older models want it.", "A default (--set, a definition) fills it in."),
        ),
    ),
    Case(
        "thinking that cannot be turned off, or not be adaptive",
        _E.INVALID,
        _about(r"thinking\b.*\b(?:disabled|adaptive)\b"),
        Advice(
            "The model does not take this kind of thinking.",
            "Leave it to the model.",
            again(" --set thinking=null"),
            (
                "thinking.type is disabled, but the model always thinks (Fable 5.x, Opus 5.5, Mythos 5.x).",
                "thinking.type is adaptive, but the model is of generation 4.5 or earlier.",
            ),
        ),
    ),
    Case(
        "a forced tool",
        _E.INVALID,
        _about(r"\btool_choice\b"),
        Advice(
            "The model does not let a tool be forced on it.",
            "Leave the choice to the model.",
            again(" --set tool_choice=null"),
            (
                "tool_choice is any or tool, which Opus 5.5, Sonnet 5.5 and Fable or Mythos 5.1 refuse.",
                "tool_choice names a tool that is not in tools.",
            ),
        ),
    ),
    Case(
        "an unknown parameter",
        _E.INVALID,
        _about(r"extra inputs are not permitted"),
        Advice(
            "The request has a field that the API does not know.",
            f"Take the field that the message names out of these lines, then {RUN_AGAIN}",
            RERUN,
            (
                "The field's name has a slip, or it stands one level too high or too deep.",
                "It belongs to a beta that has to be asked for by a header.",
                "It is another provider's.",
            ),
        ),
    ),
    Case(
        "an image too large",
        _E.INVALID,
        _about(r"\bimage\b.*(?:dimension|too large|exceed|maximum)|image_dimensions_too_large"),
        Advice(
            "An image is larger, in pixels or bytes, than the API takes.",
            f"Name smaller images in these lines, then {RUN_AGAIN}",
            RERUN,
            (
                "The image is as the camera or the scanner made it: scale it down.",
                "There are many images in one request, for which the limits are lower.",
            ),
        ),
    ),
    Case(
        "the context window is full",
        _E.TRUNCATED,
        _about(r"model_context_window_exceeded"),
        Advice(
            "The answer filled the model's context window; more max_tokens do not help.",
            f"Shorten these lines of the job file, then {RUN_AGAIN}",
            RERUN,
            (
                "The prompt leaves little room: shorten it.",
                "Another model has a larger window: `batchrunner models` shows them (retry --model).",
            ),
        ),
    ),
    Case(
        "a relay without the model",
        _E.NOT_FOUND,
        _about(r"no available channel"),
        Advice(
            "The relay has nobody to pass requests for this model on to.",
            "Name a model that it offers, or try again when it has one.",
            again(" --model MODEL"),
            (
                "The relay calls the model by another name: `batchrunner models` lists what it offers.",
                "Your key's group there may not use it.",
                "Its own provider is down.",
            ),
        ),
    ),
    Case(
        "a region that is not served",
        _E.PERMISSION,
        _about(r"request not allowed|unsupported countr"),
        Advice(
            "The API is not offered where these requests came from.",
            "Send from a place that is served, then try again.",
            again(),
            (
                "The machine, its VPN or its proxy stands in a country that is not served.",
                "A relay sends from such a country.",
            ),
        ),
    ),
)


def advice_for(error_class: ErrorClass, message: str) -> Advice:
    """Return what to say of failures of *error_class* with this *message*."""
    for case in CASES:
        if case.error_class is error_class and (advice := case.advice_for(message)):
            return advice
    return ADVICE[error_class]
