"""The gate: one `open_at` for a whole lane. A refusal closes it for everybody, not only for the refused request."""

import math


class Gate:
    """Closed until `open_at` (an instant of the monotonic clock)."""

    def __init__(self) -> None:
        self.open_at = -math.inf
        self.closings = 0  #: In a row, without a success in between; the exponent of the fallback wait.
        self._closed_at = -math.inf

    def close(self, now: float, sent_at: float, retry_after_s: float | None, fallback_s: float) -> None:
        """Close for *retry_after_s*, or for *fallback_s* where the server named no time.

        A refusal of a request sent before the last closing tells nothing new; only a longer time of its own counts.
        """
        old_news = sent_at <= self._closed_at
        if old_news and retry_after_s is None:
            return
        self.open_at = max(self.open_at, now + (fallback_s if retry_after_s is None else retry_after_s))
        if not old_news:
            self.closings += 1
            self._closed_at = now

    def succeeded(self, sent_at: float) -> None:
        """A request got through; if it was sent after the last closing, the refusals are over."""
        if sent_at > self._closed_at:
            self.closings = 0
