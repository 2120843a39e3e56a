"""What a check found: each finding once, with how often and where first. Memory does not grow with the input."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

#: Line numbers kept of each finding.
LINES_KEPT = 3
#: Kinds of findings kept; a file that has more is no job file.
KINDS_KEPT = 500


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  #: The run would not start, or the request would fail.
    WARNING = "warning"  #: It may not do what was meant.
    NOTE = "note"  #: Good to know.


class Fault(NamedTuple):
    """One thing that is wrong. The message holds no value of the line, so that equal faults are one finding."""

    severity: Severity
    code: str  #: For machines: stable, such as `max-tokens-above-model`.
    message: str  #: What is wrong, in words.
    remedy: str = ""


def error(code: str, message: str, remedy: str = "") -> Fault:
    """Return a fault that fails the check."""
    return Fault(Severity.ERROR, code, message, remedy)


def warning(code: str, message: str, remedy: str = "") -> Fault:
    """Return a fault that does not fail the check."""
    return Fault(Severity.WARNING, code, message, remedy)


def note(code: str, message: str, remedy: str = "") -> Fault:
    """Return what is good to know."""
    return Fault(Severity.NOTE, code, message, remedy)


@dataclass(slots=True)
class Finding:
    """A fault with the lines that have it."""

    fault: Fault
    count: int = 0  #: Lines that have it; 0: no matter of lines.
    lines: list[int] = field(default_factory=list)  #: The first of them.

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        return {**self.fault._asdict(), "count": self.count, "lines": self.lines}


@dataclass(slots=True)
class Findings:
    """All that was found, in order of appearance, the worst first."""

    _found: dict[Fault, Finding] = field(default_factory=dict)
    left_out: int = 0  #: Faults of kinds beyond `KINDS_KEPT`; all of them count as errors.

    def add(self, fault: Fault, line: int | None = None) -> None:
        """Note *fault*, of a line or of the job as a whole."""
        finding = self._found.get(fault)
        if finding is None:
            if len(self._found) >= KINDS_KEPT:
                self.left_out += 1
                return
            finding = self._found[fault] = Finding(fault)
        if line is not None:
            finding.count += 1
            if len(finding.lines) < LINES_KEPT:
                finding.lines.append(line)

    def add_many(self, fault: Fault, count: int, lines: list[int]) -> None:
        """Note *fault* of *count* lines, the first of which are *lines*."""
        self._found[fault] = Finding(fault, count, lines[:LINES_KEPT])

    def __iter__(self) -> Iterator[Finding]:
        order = list(Severity)
        return iter(sorted(self._found.values(), key=lambda finding: order.index(finding.fault.severity)))

    def number(self, severity: Severity) -> int:
        """Return how many findings of *severity* there are."""
        return sum(finding.fault.severity is severity for finding in self._found.values())
