"""What a model would refuse, as far as the table of models knows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from batchrunner.catalogue import DEPRECATED, Model, as_of, known_models, nearest_model
from batchrunner.preflight.content import encoded_bytes
from batchrunner.preflight.findings import Fault, error, warning
from batchrunner.preflight.parameters import SAMPLING

#: Bytes of JSON per token of input: an estimate for prose; other scripts and code take fewer.
BYTES_PER_TOKEN = 3.2


def estimated_tokens(params_bytes: int, messages: list[Any]) -> int:
    """Return about how many tokens of input a request has; images and files in base64 are left out."""
    return round(max(0, params_bytes - encoded_bytes(messages)) / BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class AgainstModel:
    """Holds requests against the table of models."""

    official: bool  #: The endpoint is Anthropic's own: there the table holds. A gateway may have other names and rules.
    today: date

    def faults(self, params: Mapping[str, Any], tokens: int) -> Iterator[Fault]:
        """Yield what the model of *params* would refuse; *tokens* is the estimate of its input."""
        yield from self._sampling(params)
        model = known_models().get(params["model"])
        if model is None:
            yield self._unknown(params["model"])
            return
        yield from self._lifecycle(model)
        yield from _sizes(model, params["max_tokens"], tokens)
        yield from _thinking(model, params.get("thinking"))
        choice = params.get("tool_choice")
        if model.forced_tools is False and isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
            yield error("forced-tools", f"{model.id} takes no tool_choice of type any or tool", "use auto")
        if params["messages"][-1]["role"] == "assistant":
            yield from _prefill(model, params["messages"][-1]["content"])
        if params.get("speed") == "fast" and model.fast is False:
            yield warning("speed", f"{model.id} is not known to offer speed fast")

    def _sampling(self, params: Mapping[str, Any]) -> Iterator[Fault]:
        for name in SAMPLING:
            if name in params:
                said = f"{name} is refused under the current API version, even at its default"
                remedy = "take it out; output_config.effort and the prompt steer answers now"
                yield (
                    error("removed-parameter", said, remedy)
                    if self.official
                    else warning("removed-parameter", said, f"{remedy}; keep it only if your gateway takes it")
                )

    def _unknown(self, name: str) -> Fault:
        near = nearest_model(name)
        hint = f"did you mean {near}?" if near else "`batchrunner models` lists what the endpoint offers"
        if self.official and not name.startswith("claude-"):
            return error("unknown-model", f"{name[:80]} is no model of this endpoint", hint)
        return warning("unknown-model", f"{name[:80]} is not in the table of models of {as_of()}", hint)

    def _lifecycle(self, model: Model) -> Iterator[Fault]:
        if model.is_retired(self.today):
            said = f"{model.id} has ended on {model.retires}"
            remedy = "name a newer model; `batchrunner models` lists them"
            make = error if self.official else warning
            yield make("retired-model", said, remedy)
        elif model.lifecycle == DEPRECATED:
            days = (model.retires - self.today).days if model.retires else None
            end = (
                f"ends on {model.retires}, in {days} day{'' if days == 1 else 's'}"
                if model.retires
                else "is deprecated"
            )
            yield warning("deprecated-model", f"{model.id} {end}", "move to a newer model, or finish before")


def _sizes(model: Model, max_tokens: int, tokens: int) -> Iterator[Fault]:
    if model.max_output is not None and max_tokens > model.max_output:
        yield error(
            "max-tokens-above-model", f"max_tokens is above {model.max_output:,}, the most that {model.id} takes"
        )
    if model.context is not None and tokens > model.context:
        yield warning(
            "above-context",
            f"the prompt looks longer (by its bytes) than {model.context:,} tokens, all that {model.id} reads",
        )


def _thinking(model: Model, thinking: Any) -> Iterator[Fault]:
    type_ = thinking.get("type") if isinstance(thinking, dict) else None
    if model.thinking is None or type_ not in ("adaptive", "enabled", "disabled") or type_ in model.thinking:
        return
    instead = ", ".join(sorted(model.thinking))
    yield error("thinking-of-model", f"{model.id} takes no thinking of type {type_}", f"it takes: {instead}")


def _prefill(model: Model, content: Any) -> Iterator[Fault]:
    if model.prefill is False:
        yield error(
            "prefill",
            f"{model.id} refuses requests that end with a message of the assistant",
            "say in the prompt how the answer should begin, or ask for a format with output_config",
        )
    elif isinstance(content, str) and content != content.rstrip():
        yield error("prefill", "the last message, of the assistant, ends with a blank, which the API refuses")
