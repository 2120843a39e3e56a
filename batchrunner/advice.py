"""What each error class means, and what mends it: for `errors` and for the end of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from batchrunner.model import ErrorClass


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence on the cause, one on the remedy, and the command."""

    meaning: str
    remedy: str
    command: str  #: `{job}` stands for the job file or the store, `{input}` for the job file.

    def command_for(self, job: str, input_: str) -> str:
        """Return the command with *job* and *input_* as one types them in a shell."""
        return self.command.format(job=job, input=input_)


def _again(error_class: ErrorClass, more: str = "") -> str:
    return f"batchrunner retry {{job}} --class {error_class}{more}"


_RERUN = "batchrunner run {input} --on-change rerun"
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
            "Try again with fewer in flight (-j).",
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
            "Correct these lines of the job file, then run it again.",
            _RERUN,
        ),
        _E.TOO_LARGE: Advice(
            "The request or its answer is larger than what can be sent.",
            "Shorten these lines of the job file, then run it again.",
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
            "Allow longer answers, or take them as they are with --accept truncated.",
            _again(_E.TRUNCATED, " --set max_tokens=16000"),
        ),
        _E.REFUSED: Advice(
            "The model declined to answer; what it said is kept.",
            "Rephrase these lines, or take the answers as they are with --accept refused.",
            _RERUN,
        ),
        _E.EMPTY: Advice("The model answered without any content.", _LATER, _again(_E.EMPTY)),
        _E.SCHEMA: Advice("The answer does not match the schema that was asked for.", _LATER, _again(_E.SCHEMA)),
        _E.EXPIRED: Advice("The message batch ended before it got to these requests.", _LATER, _again(_E.EXPIRED)),
        _E.INPUT: Advice(
            "These lines cannot be sent as they are.",
            "Correct them in the job file, then run it again.",
            _RERUN,
        ),
    }
)
