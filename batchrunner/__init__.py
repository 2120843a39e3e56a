"""Run bulk prompts against the Claude API, within its limits and resumable.

`run`, `run_sync` and `stream` send, `Store` reads: see docs/python.md. Names are loaded when they are first used, so
`import batchrunner` costs next to nothing.
"""

# Not from `typing`: `python -m batchrunner` must import nothing before it has taken the working directory off its path.
TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from batchrunner.errors import (
        BatchrunnerError,
        ChangedRequestsError,
        Exit,
        HaltError,
        InputError,
        MemoryFullError,
        StoreError,
        StoreLockedError,
        UsageError,
    )
    from batchrunner.keywords import Options
    from batchrunner.library import run, run_sync, stream
    from batchrunner.model import ErrorClass, State
    from batchrunner.policy.window import Rate
    from batchrunner.report import Report
    from batchrunner.settings import Limits
    from batchrunner.store.answers import Result, Store
    from batchrunner.store.found import Progress
    from batchrunner.streaming import Stream
else:
    #: Where each public name lives.
    _HOMES = {
        **dict.fromkeys(("run", "run_sync", "stream"), "library"),
        **dict.fromkeys(("Result", "Store"), "store.answers"),
        **dict.fromkeys(("ErrorClass", "State"), "model"),
        "Limits": "settings",
        "Options": "keywords",
        "Progress": "store.found",
        "Rate": "policy.window",
        "Report": "report",
        "Stream": "streaming",
        "BatchrunnerError": "errors",
        "ChangedRequestsError": "errors",
        "Exit": "errors",
        "HaltError": "errors",
        "InputError": "errors",
        "MemoryFullError": "errors",
        "StoreError": "errors",
        "StoreLockedError": "errors",
        "UsageError": "errors",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})


__all__ = [
    "BatchrunnerError",
    "ChangedRequestsError",
    "ErrorClass",
    "Exit",
    "HaltError",
    "InputError",
    "Limits",
    "MemoryFullError",
    "Options",
    "Progress",
    "Rate",
    "Report",
    "Result",
    "State",
    "Store",
    "StoreError",
    "StoreLockedError",
    "Stream",
    "UsageError",
    "__version__",
    "run",
    "run_sync",
    "stream",
]
