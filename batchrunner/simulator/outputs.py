"""Output tokens of the answers under way: counted as they are produced, or reserved beforehand.

Nothing ticks: what has happened since the last question is worked out when the next one is asked.
"""

import heapq

from batchrunner.simulator.meters import Meter, Use

_AT_ONCE_S = 1e-6  # an answer that lasts no longer is there at once


class Outputs:
    """One limit of output tokens and the answers that draw on it. Instants must not go back."""

    def __init__(self, meter: Meter, *, reserved: bool) -> None:
        """*reserved*: an answer takes its `max_tokens` at admission and gives the rest back at its end."""
        self._meter = meter
        self._reserved = reserved
        self._answers: list[tuple[float, int, float, Use | None]] = []  # heap: end, number, rate or rest, reservation
        self._number = 0
        self._rate = 0.0  # tokens a second, of all answers under way
        self._at = 0.0

    def need(self, max_tokens: int) -> int:
        """Return how much must be there for a request to be let in."""
        return max_tokens if self._reserved else 1

    def begin(self, now: float, tokens: int, max_tokens: int, lasts_s: float) -> None:
        """Note an answer of *tokens* that will be produced evenly in the next *lasts_s* seconds."""
        self.meter(now)
        end, use, amount = now + lasts_s, None, 0.0
        if self._reserved:
            use, amount = self._meter.take(now, max_tokens), float(max_tokens - tokens)
        elif lasts_s > _AT_ONCE_S:
            amount = tokens / lasts_s
            self._rate += amount
        else:
            self._meter.take(now, tokens)
            return
        self._number += 1
        heapq.heappush(self._answers, (end, self._number, amount, use))

    def meter(self, now: float) -> Meter:
        """Return the meter as it stands at *now*."""
        while self._answers and self._answers[0][0] <= now:
            end, _, amount, use = heapq.heappop(self._answers)
            self._produce(end)
            if use is not None:
                self._meter.give_back(end, use, amount)
            else:
                self._rate = self._rate - amount if self._answers else 0.0  # rounding does not pile up
        self._produce(now)
        return self._meter

    def _produce(self, upto: float) -> None:
        if upto > self._at:
            if self._rate > 0:
                self._meter.flow(upto, self._rate * (upto - self._at))
            self._at = upto
