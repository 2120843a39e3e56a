"""The worked example of docs/cost.md, typed: every line that it shows is said, and its arithmetic is right."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from running import command

PAGE = (Path(__file__).parent.parent / "docs" / "cost.md").read_text(encoding="utf-8")


def steps() -> list[tuple[str, list[str]]]:
    """Return each command of the example with the lines that it is shown to say."""
    (block,) = re.findall(r"<!-- typed -->\n```console\n(.*?)```", PAGE, re.DOTALL)
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def plain(text: str) -> str:
    """Return *text* without what differs from day to day: dates, and how long something took."""
    return re.sub(r"\d+\.\d s|\d+ s", "T", re.sub(r"\d{4}-\d\d-\d\d", "DAY", text))


def test_the_worked_example_is_what_the_program_says(tmp_path: Path) -> None:
    for typed, shown in steps():
        if not typed.startswith("batchrunner "):
            subprocess.run(["bash", "-c", typed], cwd=tmp_path, check=True)
            continue
        done = command(*shlex.split(typed)[1:], cwd=tmp_path)
        assert done.code == 0, done.stderr
        said = plain(done.stdout + done.stderr).splitlines()
        for line in shown:
            assert plain(line) in said, f"{typed}\n{line}\n{done.stdout}{done.stderr}"


def test_its_arithmetic_by_hand_is_right() -> None:
    tokens_in, tokens_out = 200 * 38, 5021
    assert f"{tokens_in:,} tokens at $1.00" in PAGE
    assert tokens_in * 1e-6 == pytest.approx(0.0076)
    assert tokens_out * 5e-6 == pytest.approx(0.0251, abs=0.0001)
    assert round(tokens_in * 1e-6 + tokens_out * 5e-6, 4) == 0.0327
    assert round(6 * (83 * 1e-6 + 80 * 5e-6), 4) == 0.0029
