"""What a doctor says: lines, each with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Area(StrEnum):
    """The five things that one checks by hand, in that order."""

    KEY = "key"
    PARAMETERS = "parameters"
    NETWORK = "network"
    ACCOUNT = "account"
    FREQUENCY = "frequency"


class Health(StrEnum):
    """How a thing is."""

    OK = "ok"  #: As it should be, or not to be known here.
    WARNING = "warning"  #: A run would work, perhaps not as meant.
    PROBLEM = "problem"  #: A run would stop.


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    area: Area
    code: str  #: For machines: stable, such as `key-refused`.
    health: Health
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        return {
            "area": self.area.value,
            "code": self.code,
            "state": self.health.value,
            "text": self.text,
            "remedy": self.remedy,
        }


def ok(area: Area, code: str, text: str) -> Line:
    """Return a line that asks for nothing."""
    return Line(area, code, Health.OK, text)


def warning(area: Area, code: str, text: str, remedy: str = "") -> Line:
    """Return a line that a run can live with."""
    return Line(area, code, Health.WARNING, text, remedy)


def problem(area: Area, code: str, text: str, remedy: str = "") -> Line:
    """Return a line that a run cannot live with."""
    return Line(area, code, Health.PROBLEM, text, remedy)
