"""What a run cannot go on from. Each error knows its exit code; a failed API call is a value, not one of these."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command, as documented in the README."""

    OK = 0  #: Every request succeeded.
    SOME_FAILED = 1  #: Finished, but some requests failed.
    USAGE = 2  #: Usage or input is wrong; nothing was sent.
    HALTED = 3  #: Key, permission, model or billing: the run was stopped, requests stay pending.
    LIMIT = 4  #: A limit of the user's own was reached (cost, time, failures, outage, memory).
    STORE = 5  #: The store is locked or unusable.
    BUG = 70  #: Our mistake.
    INTERRUPTED = 130  #: Ctrl-C; resumable.
    TERMINATED = 143  #: SIGTERM; resumable.


class BatchrunnerError(Exception):
    """Root of what batchrunner raises. The message names the place and the remedy, in one or two sentences."""

    exit_code: Exit = Exit.BUG


class UsageError(BatchrunnerError):
    """An option, a setting or the environment is wrong. Nothing was sent."""

    exit_code = Exit.USAGE


class InputError(BatchrunnerError):
    """The job file cannot be taken as it is. Nothing was sent and the store is as it was."""

    exit_code = Exit.USAGE


class ChangedRequestsError(InputError):
    """Requests that were answered before stand in the job file with other content."""


class HaltError(BatchrunnerError):
    """The endpoint refuses everything: key, permission, billing, address or model. No request is to blame."""

    exit_code = Exit.HALTED
    report: object = None  #: How far the run came (a `Report`), if it had begun.


class MemoryFullError(BatchrunnerError):
    """Answers in flight need more memory than the process may use. What was saved is safe; fewer at once need less."""

    exit_code = Exit.LIMIT


class StoreError(BatchrunnerError):
    """The store cannot be opened or written."""

    exit_code = Exit.STORE


class StoreLockedError(StoreError):
    """Another run works on this store."""
