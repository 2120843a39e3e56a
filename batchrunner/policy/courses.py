"""In which order a lane takes fresh requests: those with marked prefixes group by group, around groups that have to wait."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from batchrunner.policy.prefixes import Mark, group_of, marks_of

_END = "~~"  # sorts behind every path


class Span(NamedTuple):
    """What is left of a range of requests with marked prefixes, in the order of their paths."""

    path: str = ""  #: Behind this path,
    after: int = 0  #: or this `seq` with the same path,
    upto: str = _END  #: and before this one.


class _PutOff(NamedTuple):
    span: Span
    marks: Sequence[Mark]


class Courses:
    """Where a lane stands among its fresh requests."""

    def __init__(self) -> None:
        self.after = 0  #: The place of the last request without marks that was given.
        self.plain = True  #: There may be more without marks.
        self._plain_waits = False  # what was read last of it had marks
        self._main = Span()
        self._marked = True  # there may be more in the main span
        self._last: Sequence[Mark] = ()  # of the last request of the main span that was given
        self._put_off: deque[_PutOff] = deque()

    def has_plain(self, *, is_full: bool) -> bool:
        """Whether what has no marks is to be read on now."""
        return self.plain and not (is_full and self._plain_waits)

    @property
    def more(self) -> bool:
        """Whether there may be more fresh requests."""
        return self.plain or self._marked or bool(self._put_off)

    def next(self, held_by: Callable[[Sequence[Mark]], str | None], *, is_full: bool) -> Span | None:
        """Return the span to be read next; None: what has no marks, if there is more of it (`plain`).

        *held_by* returns the key of the prefix that requests with such marks have to wait for now, if they have to;
        *is_full*: so many wait already that no more of them are read ahead.
        """
        for place, (span, marks) in enumerate(self._put_off):
            if held_by(marks) is None:
                self._put_off.rotate(-place)
                return span
        if not self._marked or is_full:
            return None
        if (key := held_by(self._last)) is not None:
            self._go_around(key)
        return self._main

    def took(self, span: Span | None, after: int, path: str, *, more: bool, has_marks: bool = False) -> None:
        """*span*, or what has no marks, was read as far as *after* and *path*; *more*: and not to its end.

        *has_marks*: there were marks all the same, as in an order of the user's own.
        """
        if span is None:
            self.after, self.plain, self._plain_waits = after, more, has_marks
            return
        rest = span._replace(path=path, after=after)
        if span is not self._main:
            self._put_off.popleft()
            if more:
                self._put_off.appendleft(_PutOff(rest, marks_of(path)))
            return
        if rest != span:  # otherwise nothing was found, and where it begins there may be no request
            self._last = marks_of(path)
        self._main, self._marked = rest, more

    def _go_around(self, key: str) -> None:
        """The group that the main span has come to waits for the prefix *key*: go on behind it, and come back later."""
        _, upto = group_of(self._main.path, key)
        self._put_off.append(_PutOff(self._main._replace(upto=upto), self._last))
        self._main, self._last = Span(upto), ()
