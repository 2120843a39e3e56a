"""The samples: the commands that docs/samples.md gives lead to the files that stand beside them."""

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest

from batchrunner.cli import main

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- sample: (\S+) -->\n```console\n(.*?)```", re.DOTALL)
SAMPLES = dict(BLOCK.findall((ROOT / "docs" / "samples.md").read_text(encoding="utf-8")))

#: What time and order decide.
VARYING = {"latency_s", "api_request_id"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in VARYING} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_comes_out_as_written_down(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns("*.db*"))
    monkeypatch.chdir(tmp_path)
    for line in SAMPLES[name].splitlines():
        typed, _, comment = line.removeprefix("$ batchrunner ").partition("  # ")
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(typed))
        assert ended.value.code == (1 if comment.startswith("exits 1") else 0), line
    assert table(tmp_path / f"{name}.csv") == table(ROOT / "samples" / f"{name}.expected.csv")


def test_every_expected_file_has_its_sample() -> None:
    assert {path.name.removesuffix(".expected.csv") for path in (ROOT / "samples").glob("*.expected.csv")} == {*SAMPLES}
