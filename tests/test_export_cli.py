"""`export` as it is typed, and the recipes in the document of the store."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchrunner.cli.export import export as export_command
from batchrunner.errors import Exit, UsageError
from batchrunner.model import ErrorClass
from store_helpers import StoreMaker, answer, building, failure, request, requests, typed

ROOT = Path(__file__).parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        maker.take_in([request("r1", 1, metadata={"topic": "x"}), *requests(2, first=2)])
        maker.begin()
        maker.settle("r1", answer('{"city": "Graz"}'))
        maker.settle("r2", failure(ErrorClass.INVALID, "no"))
        yield maker


def test_failed_rows_alone(store: StoreMaker) -> None:
    result = typed("export", store.path, "--failed", "--columns", "custom_id,error_message")
    assert result.stdout == "custom_id,error_message\nr2,no\n"
    assert result.stderr == "wrote 1 row to stdout: 0 succeeded, 1 failed, 0 pending\n"


def test_what_is_left_goes_out_as_job_lines(store: StoreMaker, tmp_path: Path) -> None:
    target = tmp_path / "left.csv"
    assert typed("export", store.path, "--pending", "-o", target).exit_code == Exit.OK
    assert [json.loads(line)["custom_id"] for line in target.read_text().splitlines()] == ["r3"]
    assert typed("export", store.path, "--pending", "--where", "line < 3").stdout == ""


def test_conditions_and_flattened_answers(store: StoreMaker) -> None:
    words = ("--where", "status = 'succeeded'", "--flatten", "--columns", "answer.city,topic")
    assert typed("export", store.path, *words).stdout == "answer.city,topic\nGraz,x\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--failed", "--pending"], "not both"),
        (["--pending", "--format", "csv"], "leave out --format"),
        (["--pending", "--flatten"], "form of their own"),
        (["--format", "batch-results", "--columns", "text"], "form of their own"),
        (["--excel"], "--excel needs a file"),
        (["--where", "sattus = 1"], "no such column: sattus"),
        (["--columns", "txt"], "no column txt"),
        (["--columns", ""], "--columns takes names"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    store: StoreMaker, capfdbinary: pytest.CaptureFixture[bytes], words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        typed("export", store.path, *words)
    assert capfdbinary.readouterr().out == b""


def test_a_job_file_is_no_format_to_choose() -> None:
    with pytest.raises(click.BadParameter):
        export_command.make_context("export", ["jobs.jsonl", "--format", "job-file"])


def test_excel_says_what_it_moved(store: StoreMaker, tmp_path: Path) -> None:
    store.settle("r3", answer("x" * 50_000))
    result = typed("export", store.path, "--excel", "-o", tmp_path / "out.csv")
    assert f"1 cell too long for Excel is in {tmp_path}/out.long-cells.jsonl" in result.stderr


def test_the_recipes_of_the_store_work(store: StoreMaker, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
    recipes = re.findall(r"^\$ (sqlite-utils .*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(recipes) >= 5
    for recipe in recipes:
        _, *words = shlex.split(recipe)
        done = subprocess.run(
            [sys.executable, "-m", "sqlite_utils", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{recipe}\n{done.stderr}"
        assert done.stdout.strip(), recipe
    (queries,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    store.take_in(requests(2), on_change="keep")
    found = [store.conn.execute(query).fetchall() for query in queries.split(";") if query.strip()]
    assert len(found) == 6
