"""What one types next: the command that mends each error class, and the one that brings the answers."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from batchrunner.model import ErrorClass

#: Failures that another try can mend without a change.
MENDABLE = (
    ErrorClass.RATE_LIMITED,
    ErrorClass.CONCURRENCY,
    ErrorClass.RAMP,
    ErrorClass.OVERLOADED,
    ErrorClass.SERVER,
    ErrorClass.NETWORK,
    ErrorClass.TIMEOUT,
    ErrorClass.BAD_RESPONSE,
    ErrorClass.EMPTY,
    ErrorClass.EXPIRED,
)


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence on the cause, one on the remedy, and the command."""

    meaning: str
    remedy: str
    command: str  #: `{job}` stands for the job file or the store, `{input}` for the job file with the options it was read with.

    def command_for(self, job: str, input_: str) -> str:
        """Return the command with *job* and *input_* as one types them in a shell."""
        return self.command.format(job=job, input=input_)


def export_command(job: str, store: Path) -> str:
    """Return the command that exports the answers; *job* as one types it in a shell.

    The name of the file comes from the *store*, and never is that of the job file beside it: `jobs-results.csv`.
    """
    return f"batchrunner export {job} -o {shlex.quote(f'{store.stem}-results.csv')}"


def _again(error_class: ErrorClass, more: str = "") -> str:
    return f"batchrunner retry {{job}} --class {error_class}{more}"


#: Only lines that were changed and have no answer are sent; a change that reaches others stops the run first.
_RERUN = "batchrunner run {input}"
_RUN_AGAIN = "run it again: only these are sent."
_LATER = "Another try can succeed."

_E = ErrorClass
ADVICE: Mapping[ErrorClass, Advice] = MappingProxyType(
    {
        _E.RATE_LIMITED: Advice(
            "The API's limit of requests or tokens per minute was reached at every attempt.",
            "Try again with a lower --rpm.",
            _again(_E.RATE_LIMITED),
        ),
        _E.CONCURRENCY: Advice(
            "The API counted too many requests at once.",
            "Try again with fewer calls in flight (-j).",
            _again(_E.CONCURRENCY),
        ),
        _E.RAMP: Advice(
            "The API found that the traffic grew too fast.",
            "Try again, with a lower --rpm if it happens again.",
            _again(_E.RAMP),
        ),
        _E.OVERLOADED: Advice("The API was overloaded at every attempt.", _LATER, _again(_E.OVERLOADED)),
        _E.SERVER: Advice("The API or a gateway failed at every attempt.", _LATER, _again(_E.SERVER)),
        _E.NETWORK: Advice(
            "No connection came about, or it broke, at every attempt.",
            "Check the network and the proxy, then try again.",
            _again(_E.NETWORK),
        ),
        _E.TIMEOUT: Advice(
            "No complete answer came in time; the attempts may have been paid for.", _LATER, _again(_E.TIMEOUT)
        ),
        _E.BAD_RESPONSE: Advice(
            "The endpoint said 200, but what it sent is no message: a proxy's page or a cut body.",
            "Check ANTHROPIC_BASE_URL and the gateway, then try again.",
            _again(_E.BAD_RESPONSE),
        ),
        _E.INVALID: Advice(
            "The API finds fault with the request itself; another try brings the same answer.",
            f"Correct these lines of the job file, then {_RUN_AGAIN}",
            _RERUN,
        ),
        _E.TOO_LARGE: Advice(
            "The request or its answer is larger than what can be sent.",
            f"Shorten these lines of the job file, then {_RUN_AGAIN}",
            _RERUN,
        ),
        _E.AUTHENTICATION: Advice(
            "The API does not accept the key.",
            "Set ANTHROPIC_API_KEY to a valid key, then try again.",
            _again(_E.AUTHENTICATION),
        ),
        _E.PERMISSION: Advice(
            "The key is valid but may not do this, or not from here.",
            "Use a key of a workspace that may, then try again.",
            _again(_E.PERMISSION),
        ),
        _E.NOT_FOUND: Advice(
            "The endpoint does not offer this model.",
            "Name a model that it offers.",
            _again(_E.NOT_FOUND, " --set model=MODEL"),
        ),
        _E.ENDPOINT: Advice(
            "The address is not that of the Messages API.",
            "Correct ANTHROPIC_BASE_URL or --base-url, then try again.",
            _again(_E.ENDPOINT),
        ),
        _E.BILLING: Advice(
            "The account has no credit left, or a spend limit is reached.",
            "Add credit or raise the limit in the console, then try again.",
            _again(_E.BILLING),
        ),
        _E.TRUNCATED: Advice(
            "The answer hit max_tokens or the context window; it is kept and was paid for.",
            "Allow longer answers; with --accept truncated the next ones count as they come.",
            _again(_E.TRUNCATED, " --set max_tokens=16000"),
        ),
        _E.REFUSED: Advice(
            "The model declined to answer; what it said is kept.",
            f"Rephrase these lines of the job file, then {_RUN_AGAIN} "
            "With --accept refused the next refusals count as answers.",
            _RERUN,
        ),
        _E.EMPTY: Advice("The model answered without any content.", _LATER, _again(_E.EMPTY)),
        _E.PAUSED: Advice(
            "The server paused a long turn with server tools; what it has so far is kept and was paid for.",
            "Send it on with the assistant's content as one more message (docs/answers.md), or allow fewer tool uses "
            "and try anew.",
            _again(_E.PAUSED),
        ),
        _E.SCHEMA: Advice(
            "The answer is not JSON that matches the schema asked for; it is kept and was paid for.",
            "Another try can succeed, a clearer prompt is likelier to; with --accept schema the next ones count as they "
            "come.",
            _again(_E.SCHEMA),
        ),
        _E.EXPIRED: Advice("The message batch ended before it got to these requests.", _LATER, _again(_E.EXPIRED)),
        _E.INPUT: Advice(
            "These lines cannot be sent as they are.",
            f"Correct them in the job file, then {_RUN_AGAIN}",
            _RERUN,
        ),
    }
)
