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
    """A sentence on what it means, one on the remedy, the command, and what to look at."""

    meaning: str
    remedy: str
    command: str  #: `{job}`: the job file or store; `{input}`: the job file with its options; `{which}`: as in `command_for`.
    causes: tuple[str, ...] = ()  #: What usually lies behind it, to be checked in this order; sentences.

    def command_for(self, job: str, input_: str, which: str) -> str:
        """Return the command with *job* and *input_* as one types them in a shell.

        *which* are the options of `retry` that say what is put back: `--class server`, `--signature 1f2e3d4c`.
        """
        return self.command.format(job=job, input=input_, which=which)


def export_command(job: str, store: Path) -> str:
    """Return the command that exports the answers; *job* as one types it in a shell.

    The name of the file comes from the *store*, and never is that of the job file beside it: `jobs-results.csv`.
    """
    return f"batchrunner export {job} -o {shlex.quote(f'{store.stem}-results.csv')}"


def again(changes: str = "") -> str:
    """Return the command that tries the failures in question again, with *changes* (options of `retry`)."""
    return f"batchrunner retry {{job}} {{which}}{changes}"


#: Only lines that were changed and have no answer are sent; a change that reaches others stops the run first.
RERUN = "batchrunner run {input}"
RUN_AGAIN = "run it again: only these are sent."
_LATER = "Another try can succeed."

_E = ErrorClass
ADVICE: Mapping[ErrorClass, Advice] = MappingProxyType(
    {
        _E.RATE_LIMITED: Advice(
            "The API's limit of requests or tokens per minute was reached at every attempt.",
            "Try again with a lower --rpm.",
            again(),
            (
                "The limit set here (--rpm, --itpm, --otpm) is above that of the account's tier; limits hold per model class.",
                "Another program draws on the same organization's limit.",
                "A gateway has a limit of its own: its message names it.",
            ),
        ),
        _E.CONCURRENCY: Advice(
            "The API counted too many requests at once.",
            "Try again with fewer calls in flight (-j).",
            again(),
            (
                "More calls were in flight (-j) than the account or the gateway permits.",
                "Another program has connections open with the same key.",
                "Answers take long, so that an ordinary rate keeps many calls open: lower --rpm, too.",
            ),
        ),
        _E.RAMP: Advice(
            "The API found that the traffic grew too fast.",
            "Try again, with a lower --rpm if it happens again.",
            again(),
            (
                "The run began faster than the account is used to (the acceleration limit).",
                "Traffic rose after a pause, here or in another program of the organization.",
            ),
        ),
        _E.OVERLOADED: Advice(
            "The API was overloaded at every attempt.",
            _LATER,
            again(),
            (
                "The API had more to do than it could for everybody: its status page says so.",
                "One model is overloaded: another one may not be (--model).",
            ),
        ),
        _E.SERVER: Advice(
            "The API or a gateway failed at every attempt.",
            _LATER,
            again(),
            (
                "The API or the gateway had an outage: look at its status page.",
                "One request brings the server down each time: `batchrunner show` tells what each attempt met.",
                "A gateway reports errors of another kind as 5xx: read the message.",
            ),
        ),
        _E.NETWORK: Advice(
            "No connection came about, or it broke, at every attempt.",
            "Check the network and the proxy, then try again.",
            again(),
            (
                "The name could not be resolved or the connection was refused: look at the address.",
                "A proxy or a firewall cuts connections, often after a fixed time of silence: answers that are streamed get through (--set stream=true).",
                "A certificate is not trusted, as behind a company's proxy: the message names it.",
            ),
        ),
        _E.TIMEOUT: Advice(
            "No complete answer came in time; the attempts may have been paid for.",
            _LATER,
            again(),
            (
                "The answer is long: streaming (--set stream=true) or a lower max_tokens helps.",
                "--timeout, or timeout_s on the line, is shorter than such an answer takes.",
                "A gateway (504, 524) waits less long than the API needs.",
            ),
        ),
        _E.BAD_RESPONSE: Advice(
            "The endpoint said 200, but what it sent is no message: a proxy's page or a cut body.",
            "Check ANTHROPIC_BASE_URL and the gateway, then try again.",
            again(),
            (
                "ANTHROPIC_BASE_URL or --base-url leads to a web page: a console, a login, a path that is not the API's.",
                "A proxy or a network's login page answers in the API's place.",
                "The gateway cuts long answers or packs them wrongly: `batchrunner show` has the body.",
            ),
        ),
        _E.INVALID: Advice(
            "The API finds fault with the request itself; another try brings the same answer.",
            f"Correct these lines of the job file, then {RUN_AGAIN}",
            RERUN,
            (
                "The message names the field: look at it in the line (`batchrunner show`).",
                "A default that was filled in (--set, --system, a definition) does not suit the model.",
                "The line was written for an older version of the API or another model.",
            ),
        ),
        _E.TOO_LARGE: Advice(
            "The request or its answer is larger than what can be sent.",
            f"Shorten these lines of the job file, then {RUN_AGAIN}",
            RERUN,
            (
                "Images or PDFs in the line: a request may have 32 MB in all.",
                "A prompt that was put together by mistake from whole files.",
                "A gateway permits less than the API.",
            ),
        ),
        _E.AUTHENTICATION: Advice(
            "The API does not accept the key.",
            "Set ANTHROPIC_API_KEY to a valid key, then try again.",
            again(),
            (
                "ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) is not the key that you mean, is cut, or has a space in it.",
                "The key was revoked or has expired: the console lists those that are valid.",
                "The key belongs to another endpoint than ANTHROPIC_BASE_URL names.",
            ),
        ),
        _E.PERMISSION: Advice(
            "The key is valid but may not do this, or not from here.",
            "Use a key of a workspace that may, then try again.",
            again(),
            (
                "The key's workspace may not use this model or feature.",
                "The country or network that you send from is not served.",
                "The organization is on hold or disabled: the console says so.",
            ),
        ),
        _E.NOT_FOUND: Advice(
            "The endpoint does not offer this model.",
            "Name a model that it offers.",
            again(" --model MODEL"),
            (
                "The name of the model has a slip: `batchrunner models` lists what is offered.",
                "The model was retired, or this account has no access to it.",
                "A gateway has names of its own for models.",
            ),
        ),
        _E.ENDPOINT: Advice(
            "The address is not that of the Messages API.",
            "Correct ANTHROPIC_BASE_URL or --base-url, then try again.",
            again(),
            (
                "ANTHROPIC_BASE_URL ends in /v1, which then stands twice: leave it out.",
                "The address is that of a web page or of another API of the gateway.",
                "The server redirects: name the address that it redirects to.",
            ),
        ),
        _E.BILLING: Advice(
            "The account has no credit left, or a spend limit is reached.",
            "Add credit or raise the limit in the console, then try again.",
            again(),
            (
                "The credit is used up: the console's page on billing shows it.",
                "A spend limit of the organization or the workspace is reached; a monthly one begins anew on the 1st, 00:00 UTC.",
                "A relay has a quota of its own for this key.",
            ),
        ),
        _E.TRUNCATED: Advice(
            "The answer hit max_tokens or the context window; it is kept and was paid for.",
            "Allow longer answers; with --accept truncated the next ones count as they come.",
            again(" --set max_tokens=16000"),
            (
                "max_tokens is lower than what such answers need; thinking counts towards it.",
                "The prompt asks for more than you want: ask for a shorter form.",
                "The context window is full (model_context_window_exceeded): only a shorter prompt helps.",
            ),
        ),
        _E.REFUSED: Advice(
            "The model declined to answer; what it said is kept.",
            f"Rephrase these lines of the job file, then {RUN_AGAIN} "
            "With --accept refused the next refusals count as answers.",
            RERUN,
            (
                "The prompt, or a document in it, touches what the model does not do.",
                "The context is missing: a system prompt that says what it is for may help (retry --system-append).",
                "Another model draws the line elsewhere (retry --model).",
            ),
        ),
        _E.EMPTY: Advice(
            "The model answered without any content.",
            _LATER,
            again(),
            (
                "The prompt leaves the model nothing to say, as when it ends with a finished answer.",
                "A stop sequence or an instruction ends the answer at once.",
                "It happens by chance: another try brings text.",
            ),
        ),
        _E.PAUSED: Advice(
            "The server paused a long turn with server tools; what it has so far is kept and was paid for.",
            "Send it on with the assistant's content as one more message (docs/answers.md), or allow fewer tool uses "
            "and try anew.",
            again(),
            (
                "The turn used a server tool (web search, code execution) more often than one call allows.",
                "The prompt asks for more research than one turn holds.",
            ),
        ),
        _E.SCHEMA: Advice(
            "The answer is not JSON that matches the schema asked for; it is kept and was paid for.",
            "Another try can succeed, a clearer prompt is likelier to; with --accept schema the next ones count as they "
            "come.",
            again(),
            (
                "max_tokens cut the answer off before its end.",
                "The prompt does not say what the schema demands.",
                "The schema asks for what the model cannot know; let it be null.",
            ),
        ),
        _E.EXPIRED: Advice(
            "The message batch ended before it got to these requests.",
            _LATER,
            again(),
            ("The batch was large, or the API had much to do, for 24 hours.",),
        ),
        _E.INPUT: Advice(
            "These lines cannot be sent as they are.",
            f"Correct them in the job file, then {RUN_AGAIN}",
            RERUN,
            (
                "The message names the line's fault: a field that is missing, a value of the wrong kind.",
                "--prompt names a field that these rows lack.",
                "The file is not of the format it was read as (--format).",
            ),
        ),
    }
)
