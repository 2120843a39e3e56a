"""How the calls about batches go: which failures pass, how long to wait for that, and what the others mean."""

from collections.abc import Callable

import anyio

from batchrunner.errors import BatchrunnerError, Exit, HaltError, UsageError
from batchrunner.model import ErrorClass, Failure

_PASSING = frozenset(
    {
        *(ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP, ErrorClass.OVERLOADED, ErrorClass.SERVER),
        *(ErrorClass.NETWORK, ErrorClass.TIMEOUT, ErrorClass.BAD_RESPONSE),
    }
)
_FIRST_S = 1.0
_CAP_S = 60.0


class RouteOutageError(BatchrunnerError):
    """The API answered nothing about batches for as long as the user waits (`--max-outage`)."""

    exit_code = Exit.LIMIT


class Line:
    """The state of the line to the API: one for all calls about batches."""

    def __init__(self, note: Callable[[str], None], *, max_outage_s: float = 3600.0, first_s: float = _FIRST_S) -> None:
        """*note* shows a sentence; *first_s*: the first wait after a failure, which doubles up to a minute."""
        self._note = note
        self._max_outage_s = max_outage_s
        self._first_s = first_s
        self._failing_since: float | None = None
        self._in_a_row = 0

    @staticmethod
    def is_passing(failure: Failure) -> bool:
        """Whether another try may go better."""
        return failure.error_class in _PASSING

    def answers(self) -> None:
        """A call went well."""
        self._failing_since, self._in_a_row = None, 0

    async def pause(self, failure: Failure, until: anyio.Event | None = None) -> None:
        """Wait after a *failure* that passes, at most until an event; raises if it is not one, or has lasted too long."""
        if not self.is_passing(failure):
            raise self.error_of(failure)
        now = anyio.current_time()
        if failure.error_class is ErrorClass.RATE_LIMITED:
            self._failing_since = None  # it does answer
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._max_outage_s:
            raise RouteOutageError(
                f"Nothing was answered about batches for {now - self._failing_since:.0f} s (--max-outage): "
                f"{failure.message}. They go on at the API; run the same command again."
            )
        if self._in_a_row == 0:
            self._note(f"batches: {failure.message}; trying again")
        wait_s = max(min(_CAP_S, self._first_s * 2 ** min(self._in_a_row, 20)), failure.retry_after_s or 0.0)
        self._in_a_row += 1
        with anyio.move_on_after(wait_s):
            await (until or anyio.Event()).wait()

    @staticmethod
    def error_of(failure: Failure) -> BatchrunnerError:
        """Return what to stop the run with when *failure* is for good."""
        said = failure.message.rstrip(".")
        if failure.error_class is ErrorClass.ENDPOINT:
            return UsageError(
                f"This endpoint has no Message Batches API ({said}). Nothing is lost: the requests are pending, and "
                "`--route live` sends them one by one."
            )
        if failure.error_class is ErrorClass.TOO_LARGE:
            return UsageError(f"The endpoint takes no batch as large as this ({said}): lower --batch-size.")
        return HaltError(f"The endpoint refuses batches: {said} ({failure.error_class}). The requests are pending.")
