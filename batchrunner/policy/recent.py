"""A percentile over the latest of many figures."""

import math
from bisect import bisect_left, insort
from collections import deque


class Recent:
    """The latest figures of a kind, at most *size* of them, kept in order of size too."""

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def largest(self) -> float:
        """The largest of them; there must be one."""
        return self._sorted[-1]

    def note(self, figure: float) -> None:
        """Add a *figure*; beyond the size the oldest one is forgotten."""
        self._latest.append(figure)
        insort(self._sorted, figure)
        if len(self._latest) > self._size:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def percentile(self, share: float) -> float:
        """Return the figure that *share* (0 to 1) of them do not exceed (nearest rank); there must be one."""
        return self._sorted[max(0, math.ceil(share * len(self._sorted)) - 1)]
