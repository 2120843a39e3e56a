"""How many failures the user puts up with: when a run stops for them, and when its exit code tells of them. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Self

from batchrunner.errors import UsageError

#: A share means nothing before so many requests have finished.
LEAST_FINISHED = 100

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s?%")
_COUNT = re.compile(r"\d{1,12}")


@dataclass(frozen=True, slots=True)
class HaltAt:
    """Stop at so many failed requests, or at such a share of those that have finished."""

    failures: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str | int | None) -> Self | None:
        """Return what `--halt` asks for: `500`, `5%`; None for `none`. Raises `UsageError` for anything else."""
        if text is None or text == "none":
            return None
        said = str(text).strip()
        if _COUNT.fullmatch(said) and int(said) and not isinstance(text, bool):
            return cls(failures=int(said))
        percent = _percent(said)
        if percent is None or not percent:
            raise UsageError(
                f"--halt {text!r} is neither a number of failed requests, nor a share such as 5%, nor none."
            )
        return cls(percent=percent)

    def reached(self, failed: int, finished: int) -> str | None:
        """Return in words that *failed* of *finished* requests are too many; None if they are not."""
        if self.failures is not None and failed >= self.failures:
            return f"{_many(failed)} failed (--halt {self})."
        is_enough = finished >= LEAST_FINISHED
        if self.percent is not None and is_enough and failed * 100 >= self.percent * finished:
            return f"{failed:,} of {_many(finished)} that finished have failed (--halt {self})."
        return None

    def __str__(self) -> str:
        return str(self.failures) if self.failures is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class FailOn:
    """A run that came to its end exits 1 if more than so many percent of its requests failed."""

    percent: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return what `--fail-on` asks for: `any`, `none`, `1%`. Raises `UsageError` for anything else."""
        if text is None or text == "any":
            return cls()
        if text == "none":
            return cls(math.inf)
        percent = _percent(str(text).strip())
        if percent is None:
            raise UsageError(f"--fail-on {text!r} is neither any, nor none, nor a share such as 1%.")
        return cls(percent)

    def fails(self, failed: int, finished: int) -> bool:
        """Whether *failed* of *finished* requests are worth an exit code."""
        return failed > 0 and failed * 100 > self.percent * finished

    def __str__(self) -> str:
        return {0.0: "any", math.inf: "none"}.get(self.percent, f"{self.percent:g}%")


def _percent(text: str) -> float | None:
    match = _PERCENT.fullmatch(text)
    percent = float(match[1]) if match else None
    return percent if percent is not None and percent <= 100 else None


def _many(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"
