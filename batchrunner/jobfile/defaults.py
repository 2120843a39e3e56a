"""What every request of a job has in common unless its line says otherwise, and the names a line may use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.jobfile.checks import check_max_tokens, check_model, check_stream
from batchrunner.jobfile.decode import compact, parse_strictly
from batchrunner.jobfile.faults import RefusedError, shown

#: Parameters of the Messages API, those of its beta included. The last three are gone from the API, but gateways take them.
MESSAGES_PARAMETERS = frozenset(
    {
        "model",
        "max_tokens",
        "messages",
        "system",
        "stop_sequences",
        "stream",
        "thinking",
        "output_config",
        "tools",
        "tool_choice",
        "metadata",
        "service_tier",
        "speed",
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "mcp_servers",
        "context_management",
        "fallbacks",
        "compaction",
        "thread",
        "billing_policy",
        "fallback_credit_token",
        "temperature",
        "top_p",
        "top_k",
    }
)

#: How like a known name a key must be to be taken for a slip: `max_completion_tokens` is, `topic` (for `top_p`) is not.
_LIKENESS = 0.64

#: What a line may hold beside them.
LINE_KEYS = frozenset({"prompt", "id", "custom_id", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Defaults:
    """Parameters for lines that do not set them; UsageError if one could never be sent.

    There is no built-in model and no built-in `max_tokens`: whoever makes a `Defaults` says so or leaves it to the lines.
    """

    model: str | None = None
    max_tokens: int | None = None
    system: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  #: Any other parameter; wins over the three above.

    def __post_init__(self) -> None:
        body = self.body()
        for key in body:
            _check_key(key)
        try:
            _check_values(body)
            compact(body).encode()
        except (RefusedError, TypeError, ValueError) as error:
            raise UsageError(f"the defaults of the job cannot be sent: {error}.") from error

    def body(self) -> dict[str, Any]:
        """Return what is appended to a request that lacks it.

        The order does not depend on how the settings were given: it shows in the hash of a request.
        """
        named = {"model": self.model, "max_tokens": self.max_tokens, "system": self.system}
        named |= dict(sorted(self.extra.items()))
        return {key: value for key, value in named.items() if value is not None}


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return the parameters in texts `key=value`, the later one of a key.

    A value that is JSON counts as such, any other as a string: `max_tokens=2000`, `thinking={"type":"adaptive"}`,
    `model=claude-haiku-4-5`. UsageError for a text without `=` and for a key that is no parameter.
    """
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"{shown(setting)} is no setting: write key=value, such as max_tokens=2000.")
        _check_key(key)
        parsed[key] = _value(value)
    return parsed


def parse_patch(settings: Iterable[str]) -> dict[str, Any]:
    """Return the parameters in texts `key=value` to be laid over requests; UsageError for what could not be sent."""
    patch = parse_settings(settings)
    check_patch(patch, "--set")
    return patch


def check_patch(patch: Mapping[str, Any], name: str) -> None:
    """Raise `UsageError` if a *patch* of that *name* has what is no parameter, or what could not be sent."""
    for key in patch:
        _check_key(key)
    try:
        _check_values(patch)
        compact(patch).encode()
    except (RefusedError, TypeError, ValueError) as error:
        raise UsageError(f"{name}: {error}.") from error


def _check_values(body: Mapping[str, Any]) -> None:
    for key, check in (("model", check_model), ("max_tokens", check_max_tokens), ("stream", check_stream)):
        if key in body:
            check(body[key])


@lru_cache(maxsize=256)  # Comparing takes 0.1 ms, and one slip may stand in a million lines.
def nearest(key: str, names: frozenset[str]) -> str:
    """Return ` (did you mean "x"?)` for the name most like *key*, nothing if none is like it."""
    import difflib

    return "".join(
        f' (did you mean "{name}"?)' for name in difflib.get_close_matches(key, sorted(names), n=1, cutoff=_LIKENESS)
    )


def _check_key(key: str) -> None:
    settable = MESSAGES_PARAMETERS - {"messages"}
    if key not in settable:
        raise UsageError(f"{shown(key)} is no parameter that can be set for all requests{nearest(key, settable)}.")


def _value(text: str) -> Any:
    try:
        return parse_strictly(text)
    except RefusedError:
        return text
