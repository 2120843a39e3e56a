"""One row of the table that sorts errors: where it applies and what must be found. Pure."""

from dataclasses import dataclass

from batchrunner.api.bodies import Evidence
from batchrunner.model import ErrorClass

_ANY: frozenset[int | None] = frozenset()
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: the class, where it applies, and what must be found; any one finding is enough."""

    error_class: ErrorClass
    statuses: frozenset[int | None] = _ANY  #: Only for these (None: the status is unknown); empty: for any.
    codes: frozenset[str] = _NONE  #: Values of `type`, `code`, ...
    phrases: tuple[str, ...] = ()  #: Anywhere in the text, unless it may echo the request.
    openings: tuple[str, ...] = ()  #: At the start of the API's own message, wrapped or not; believed even in an echo.
    sequences: tuple[tuple[str, str], ...] = ()  #: A word, and soon after it another one; as phrases.
    is_anthropic: bool | None = None  #: Only in the API's own bodies, or only in others'; None: in both.
    status_is_enough: bool = False  #: The status alone is a finding.

    def fits(self, status: int | None, evidence: Evidence) -> bool:
        """Whether this row speaks of the error."""
        if self.statuses and status not in self.statuses:
            return False
        if self.is_anthropic is not None and self.is_anthropic is not evidence.is_anthropic:
            return False
        if self.status_is_enough or self.codes & evidence.codes:
            return True
        if self.openings and any(
            said.lower().startswith(self.openings) for said in (evidence.message, evidence.wrapped)
        ):
            return True
        if evidence.echoes_request or evidence.is_html:
            return False
        return any(phrase in evidence.text for phrase in self.phrases) or any(
            _follows(evidence.text, first, second) for first, second in self.sequences
        )


def _follows(text: str, first: str, second: str) -> bool:
    """Whether *second* stands within 200 characters after the first *first*."""
    start = text.find(first)
    return start >= 0 and second in text[start : start + 200]
