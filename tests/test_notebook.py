"""The library in a real notebook kernel, where a loop is running already; skipped where none is installed."""

import queue
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner import BatchrunnerError
from running import rows

for _needed in ("ipykernel", "ipywidgets", "jupyter_client"):
    pytest.importorskip(_needed)

pytestmark = pytest.mark.filterwarnings("default")  # of the kernel's own


class Notebook:
    """A kernel in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        manager: Any = pytest.importorskip("jupyter_client.manager")
        self.folder = folder
        self._kernel, self._client = manager.start_new_kernel(kernel_name="python3", cwd=str(folder))

    def close(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=True)

    def cell(self, code: str, interrupt_when: Callable[[], bool] | None = None) -> list[tuple[str, Any]]:
        """Run *code* and return what it shows: kinds of messages with their contents, to the end."""
        shown: list[tuple[str, Any]] = []
        cell, give_up_at = self._client.execute(code), time.monotonic() + 60
        while time.monotonic() < give_up_at:
            if interrupt_when is not None and interrupt_when():
                self._kernel.interrupt_kernel()
                interrupt_when = None
            try:
                message = self._client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") == cell:
                shown.append((message["msg_type"], message["content"]))
                if message["content"].get("execution_state") == "idle":
                    return shown
        raise AssertionError(f"the cell has no end: {shown}")


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path)
    yield notebook
    notebook.close()


def test_the_sync_door_works_beside_the_running_loop_and_shows_the_bar_of_notebooks(notebook: Notebook) -> None:
    shown = notebook.cell(
        "import asyncio; from batchrunner import run_sync\n"
        "assert asyncio.get_running_loop().is_running()\n"
        "run_sync(['a', 'b', 'c'], store='x.db', model='claude-haiku-4-5', simulate=True).totals"
    )
    assert [content for kind, content in shown if kind == "error"] == []
    (result,) = (content for kind, content in shown if kind == "execute_result")
    assert result["data"]["text/plain"] == "Totals(requests=3, succeeded=3, failed=0)"
    bars = [content["data"] for kind, content in shown if kind == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in bar and "requests:" in bar["text/plain"] for bar in bars)


def test_the_stop_button_lets_calls_in_flight_finish(notebook: Notebook) -> None:
    store = notebook.folder / "x.db"

    def sending() -> bool:
        try:
            return store.exists() and rows(store, "SELECT count(*) >= 6 FROM attempts") == [(1,)]
        except (sqlite3.Error, BatchrunnerError):  # not whole yet
            return False

    shown = notebook.cell(
        "from batchrunner import run_sync\n"
        "asked = [f'Question {n}' for n in range(500)]\n"
        "run_sync(asked, store='x.db', model='claude-haiku-4-5', simulate='latency=0.5', concurrency=5)",
        interrupt_when=sending,
    )
    assert [content["ename"] for kind, content in shown if kind == "error"] == ["KeyboardInterrupt"]
    assert "may finish within 60 s" in "".join(content["text"] for kind, content in shown if kind == "stream")
    assert rows(store, "SELECT ending FROM runs") == [("interrupted",)]
    ((attempts, ended),) = rows(store, "SELECT count(*), count(ended_at) FROM attempts")
    assert 6 <= attempts == ended < 500
