"""What the documents show of the library runs as shown."""

import doctest
import json
import re
import shutil
from pathlib import Path

import pytest

from batchrunner import Options, library

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("jobs", "samples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.db*"))
    prompts = ["Name a river.", "Name a lake.", "[[sim:400]] Name a sea."]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    monkeypatch.chdir(tmp_path)


def test_the_page_on_python_is_true() -> None:
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0


def test_the_page_names_every_keyword() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| keyword | means |", 1)[1].split("\n\n", 1)[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    assert named == set(Options.__annotations__)


def test_python_that_is_only_shown_would_compile() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, str(PAGE), "exec")


def test_the_examples_in_the_library_run() -> None:
    results = doctest.testmod(library)
    assert results.attempted > 5
    assert results.failed == 0
