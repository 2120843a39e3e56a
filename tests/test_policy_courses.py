"""In which order fresh requests are taken, and that none is left out or taken twice."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.policy.courses import Courses, Span
from batchrunner.policy.prefixes import Mark, group_of, marks_of


def path(*keys: str) -> str:
    return "|".join(f"{key:0>16}.5000.5m" for key in keys)


def key(name: str) -> str:
    return f"{name:0>16}"


class Store:
    """Rows as the store has them: (path or None, seq)."""

    def __init__(self, rows: Sequence[str | None], count: int) -> None:
        self.rows = [(given, seq) for seq, given in enumerate(rows, 1)]
        self.count = count

    def read(self, courses: Courses, span: Span | None) -> Sequence[tuple[str | None, int]]:
        if span is None:
            found = [row for row in self.rows if row[0] is None and row[1] > courses.after][: self.count]
            courses.took(None, found[-1][1] if found else courses.after, "", more=len(found) == self.count)
            return found
        marked = sorted((given, seq) for given, seq in self.rows if given is not None)
        within = [row for row in marked if (span.path, span.after) < row and row[0] < span.upto][: self.count]
        last, after = within[-1] if within else (span.path, span.after)
        courses.took(span, after, last, more=len(within) == self.count)
        return within


def test_marks_read_back_what_a_path_says() -> None:
    assert marks_of(path("a", "b")) == (Mark(key("a"), 5000, 300.0), Mark(key("b"), 5000, 300.0))
    assert marks_of("") == ()


def test_a_group_is_all_that_shares_the_prefix() -> None:
    start, upto = group_of(path("a", "b", "c"), key("b"))
    assert start <= path("a", "b") < upto
    assert start <= path("a", "b", "z") < upto
    assert not start <= path("a", "c") < upto
    assert not start <= path("a") < upto


def test_marked_requests_come_group_by_group_and_before_the_others() -> None:
    store, courses = Store([path("b"), None, path("a"), path("b"), path("a")], 2), Courses()
    order: list[tuple[str | None, int]] = []
    while courses.more:
        order += store.read(courses, courses.next(lambda _: None, is_full=False))
    assert order == [(path("a"), 3), (path("a"), 5), (path("b"), 1), (path("b"), 4), (None, 2)]


def test_a_group_that_waits_is_gone_around_and_come_back_to() -> None:
    store, courses = Store([path("a")] * 5 + [path("b")] * 3, 2), Courses()
    held: set[str] = set()

    def held_by(marks: object) -> str | None:
        return next((mark.key for mark in marks if mark.key in held), None)  # type: ignore[attr-defined]

    assert [seq for _, seq in store.read(courses, courses.next(held_by, is_full=False))] == [1, 2]
    held.add(key("a"))
    assert [seq for _, seq in store.read(courses, courses.next(held_by, is_full=False))] == [6, 7]
    held.clear()
    rest = []
    while courses.more:
        rest += [seq for _, seq in store.read(courses, courses.next(held_by, is_full=False))]
    assert rest == [3, 4, 5, 8]


def test_with_many_waiting_only_what_has_no_marks_is_read() -> None:
    courses = Courses()
    assert isinstance(courses.next(lambda _: None, is_full=False), Span)
    assert courses.next(lambda _: None, is_full=True) is None
    assert courses.has_plain(is_full=True)


def test_with_many_waiting_an_order_of_the_users_own_is_not_read_on() -> None:
    courses = Courses()
    courses.took(None, 500, "", more=True, has_marks=True)
    assert courses.has_plain(is_full=False)
    assert not courses.has_plain(is_full=True)
    assert courses.more


PATHS = st.one_of(
    st.none(),
    st.builds(path, st.sampled_from("ab")),
    st.builds(path, st.sampled_from("ab"), st.sampled_from("cde")),
    st.builds(path, st.sampled_from("ab"), st.sampled_from("cde"), st.sampled_from("fghij")),
)


@settings(deadline=None)
@given(st.lists(PATHS, max_size=40), st.integers(1, 5), st.lists(st.sets(st.sampled_from("abcde")), max_size=60))
def test_every_request_is_given_once_whatever_waits_meanwhile(
    rows: list[str | None], count: int, holds: list[set[str]]
) -> None:
    store, courses = Store(rows, count), Courses()
    given_out: list[tuple[str | None, int]] = []
    pending = [*holds, *[set[str]() for _ in range(300)]]
    for names in pending:
        held = {key(name) for name in names}

        def held_by(marks: object, held: set[str] = held) -> str | None:
            return next((mark.key for mark in marks if mark.key in held), None)  # type: ignore[attr-defined]

        span = courses.next(held_by, is_full=False)
        if span is not None or courses.plain:
            given_out += store.read(courses, span)
    assert not courses.more
    assert sorted(seq for _, seq in given_out) == list(range(1, len(rows) + 1))
