"""The keywords of `run`, `run_sync` and `stream`, and what they take."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from batchrunner.policy.projection import Projection
from batchrunner.progress import Reporter
from batchrunner.settings import Limits
from batchrunner.spool import Lines

#: A job file or a definition, or the requests themselves, each as a line of a job file has it; None: the store alone.
Requests = str | os.PathLike[str] | Lines | None


class Options(TypedDict, total=False):
    """The keywords of `run`, `run_sync` and `stream`; each but `client` is also an option of the command."""

    store: str | os.PathLike[str] | None  #: The SQLite file. Default: beside the job file; needed without one.
    # How lines become requests.
    model: str | None  #: For requests that name no model.
    max_tokens: int | None  #: For requests that set none. Default: 1024.
    system: str | None  #: System prompt for requests that have none.
    prompt: str | None  #: Template that makes requests of rows: `"Solve: {question}"`.
    params: Mapping[str, Any] | None  #: Any other parameters of the Messages API, for requests that do not set them.
    format: Literal["jsonl", "csv", "tsv", "txt"] | None  #: Of the job file, where its suffix does not tell.
    surrogates: Literal["refuse", "replace"] | None  #: Half characters: a bad line (default), or replaced by U+FFFD.
    allow_files: str | os.PathLike[str] | None  #: Requests may name images and PDFs below this directory.
    skip_invalid: bool | None  #: Record bad lines as failed requests and send the others.
    on_change: (
        Literal["keep", "rerun"] | None
    )  #: For requests sent before that read differently now. Default: an error.
    # Which requests, in which order.
    first: int | None  #: Only the first so many lines; the rest stays pending, as with the next two.
    ids: Iterable[str | int] | str | None  #: Only these requests.
    sample: int | None  #: Only so many of them, drawn by chance.
    shuffle: bool | None  #: Send in an order drawn by chance.
    seed: int | None  #: Decides what is drawn. Default: 0.
    # Failed requests to put back first.
    retry: bool | str | Iterable[str] | None  #: Those another try can mend; these error classes; or `"all"`.
    retry_ids: Iterable[str | int] | str | None  #: Of those only these; without `retry`, whatever they failed of.
    retry_signatures: Iterable[str] | str | None  #: Of those only these groups of `errors`: a key, or a message.
    retry_params: Mapping[str, Any] | None  #: Laid over from now on: `{"max_tokens": 16000}`; None takes a key out.
    # How the run goes about it.
    limits: Limits | None  #: Rates and calls in flight; or the next six one by one.
    rpm: int | None  #: At most so many requests a minute.
    rate: str | None  #: The same for another period: `"600/10s"`.
    itpm: int | None  #: At most so many input tokens a minute. Default: as the endpoint says.
    otpm: int | None  #: At most so many output tokens a minute. Default: as the endpoint says.
    burst: bool | None  #: Send without an even pace what the endpoint says is left.
    concurrency: int | None  #: At most so many calls in flight. Default: as many as rate and latency ask for.
    max_outage_s: float | None  #: How long to wait for an endpoint that answers nothing. Default: 3600.
    accept: Iterable[str] | str | None  #: Answers that count as success too: `"truncated"`, `"refused"`, ...
    schema: Mapping[str, Any] | str | os.PathLike[str] | None  #: JSON schema, or its file, that every answer must fit.
    retries: Mapping[str, int] | None  #: Further attempts by error class: `{"server": 10, "timeout": 1}`.
    rules: Mapping[str, Mapping[str, Any]] | None  #: Changes of rules: `{"server": {"attempts": 10, "cap_s": 120}}`.
    pilot: int | None  #: Send so many requests drawn by chance first, and the rest only if `go_on` says so.
    go_on: bool | Callable[[Projection], bool] | None  #: After the pilot. Default: stop there (exit code 4).
    max_cost: float | str | None  #: US dollars that all runs of the store together may cost.
    max_duration: float | str | None  #: How long this run may take: seconds, or `"6h"`.
    prime: bool | None  #: Of requests that share a prefix marked for the prompt cache send one first. Default: True.
    dedupe: bool | None  #: Send identical requests once; the others get a copy of the answer.
    halt: int | str | None  #: Stop at so many failed requests, or `"5%"` of the finished ones.
    fail_on: str | None  #: When failures make the exit code 1: `"any"` (default), `"none"`, above `"1%"`.
    timeout_s: float | None  #: Deadline of one call. Default: from its `max_tokens`.
    drain_s: float | None  #: How long calls in flight may finish once the run is to stop. Default: 60.
    durability: Literal["full", "fast"] | None  #: `fast`: a power cut may lose the last second.
    progress: str | Reporter | None  #: `auto`, `bar`, `notebook`, `plain`, `json`, `none`, or a reporter of your own.
    # Which way they go: docs/batches.md.
    route: Literal["live", "batches"] | None  #: Default: batches while some are open, else live.
    batch_size: int | None  #: Rows of a batch at most. Default: 10,000.
    batch_queue: int | None  #: Rows that are with the API at once. Default: 200,000.
    poll_s: float | None  #: Between the first looks at a batch. Default: 15.
    submit_only: bool | None  #: Leave when all batches are submitted.
    then_live: bool | None  #: Send live, at the end, what batches did not answer or cannot take.
    deadline: float | str | None  #: Batches while there is time, live calls for what is left: seconds, or `"6h"`.
    # Where requests go.
    client: Any  #: An SDK client of your own (Bedrock, Vertex, a test's): everything goes through it.
    base_url: str | None  #: Another endpoint than `ANTHROPIC_BASE_URL` or the official one.
    endpoints: Iterable[str] | str | None  #: Names in your configuration file: the first that works is used.
    api_version: str | None  #: Another `anthropic-version`, for a gateway that wants it: `"2023-06-01"`.
    headers: Mapping[str, str] | None  #: Sent with every request; never a credential.
    insecure_base_url: bool | None  #: Permit `http://` beyond this machine: the key travels in clear.
    simulate: bool | str | None  #: Use the embedded simulator, with its settings if a text: `"latency=0.2..1"`.
