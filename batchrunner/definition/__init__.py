"""Job definitions: `jobs/x.toml` names input, template, defaults, limits and rules; every key of it is checked."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

from batchrunner.definition.keys import check_tables
from batchrunner.jobfile.decode import compact
from batchrunner.tomlfile import read_tables

SUFFIX = ".toml"
#: Parameters with an option of their own on the command line; all others go through `--set`.
_NAMED = ("model", "max_tokens", "system")
#: Names of options that are other names in Python.
_KEYWORDS = {"form": "format"}
_OF_EXPORTS = frozenset({"fmt", "columns", "flatten"})


@dataclass(frozen=True, slots=True)
class Definition:
    """A job as its definition describes it. What it leaves open is None or empty: the defaults hold there."""

    path: Path  #: The definition itself; the store stands beside it.
    input: Path  #: The job file.
    format: str | None = None  #: Of the input; None: as its suffix tells.
    prompt: str | None = None
    accept: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)  #: Parameters for lines that do not set them.
    limits: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: Per error class, only what it changes.
    export: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, without: Collection[str] = ()) -> tuple[str, ...]:
        """Return the parameters that have no option of their own, as `--set` takes them, but those named in *without*."""
        return tuple(f"{key}={compact(value)}" for key, value in self._others().items() if key not in without)

    def options(self) -> dict[str, Any]:
        """Return what it says under the names of the command line's parameters; flags win over them."""
        columns = self.export.get("columns")
        found = {
            "prompt": self.prompt,
            "form": self.format,
            **{key: self.request[key] for key in self._named()},
            **{key: value for key, value in self.run.items() if key != "timeout_s"},
            "schema": self._schema(),
            "fmt": self.export.get("format"),
            "columns": _joined(columns) if columns else None,
            "flatten": self.export.get("flatten"),
        }
        return {key: value for key, value in found.items() if value is not None}

    def limits_record(self) -> dict[str, Any]:
        """Return limits and rules in the form that a store keeps of its last run; flags win over them."""
        record = {
            "rate": f"{self.limits['rpm']}/min" if "rpm" in self.limits else self.limits.get("rate"),
            **{key: self.limits.get(key) for key in ("concurrency", "itpm", "otpm", "burst", "max_outage_s")},
            "max_cost": self.limits.get("max_cost"),
            "accept": list(self.accept),
            "rules": {name: dict(rule) for name, rule in self.rules.items()},
            "timeout_s": self.run.get("timeout_s"),
        }
        return {key: value for key, value in record.items() if value}

    def keywords(self) -> dict[str, Any]:
        """Return what it says of a run under the names of the keywords in Python."""
        said = {**self.options(), **self.limits_record(), "params": self._others()}
        return {_KEYWORDS.get(key, key): value for key, value in said.items() if key not in _OF_EXPORTS}

    def _schema(self) -> str | None:
        named = self.run.get("schema")
        return None if named is None else str(self.path.parent / Path(named).expanduser())

    def _others(self) -> dict[str, Any]:
        return {key: value for key, value in self.request.items() if key not in self._named()}

    def _named(self) -> list[str]:
        # A system prompt may also be a list of blocks, which only --set takes.
        return [key for key in _NAMED if key in self.request and not isinstance(self.request[key], list)]


def _joined(columns: Sequence[str]) -> str:
    """Return *columns* as `--columns` takes them: a name with a comma or a quote in it stands in quotes."""
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(columns)
    return line.getvalue()


def is_definition(path: Path) -> bool:
    """Whether *path* is meant as a definition."""
    return path.suffix == SUFFIX


def load_definition(path: Path) -> Definition:
    """Read the definition at *path*; raises `UsageError` naming file, line, key and what is allowed."""
    missing = f"no such definition; `batchrunner init {path}` writes one."
    tables = read_tables(path, check_tables, missing=missing, too_large=": is it the job file?")
    found = Definition(path, path.parent / Path(tables.pop("input")).expanduser())
    return replace(found, **{**tables, "accept": tuple(tables.get("accept", ()))})
