"""The samples: the commands that docs/samples.md gives lead to the files that stand beside them."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from batchrunner.cli import main
from batchrunner.definition import load_definition

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "samples.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- sample: (\S+) -->\n```console\n(.*?)```\n\n```csv\n(.*?)```", re.DOTALL)
SAMPLES = {name: (commands, shown) for name, commands, shown in BLOCK.findall(PAGE)}


def expected(name: str) -> Path:
    return ROOT / "samples" / f"{name}.expected.csv"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_comes_out_as_written_down(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("samples", "jobs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.db*", "*.expected.csv"))
    monkeypatch.chdir(tmp_path)
    for line in SAMPLES[name][0].splitlines():
        typed, _, comment = line.removeprefix("$ batchrunner ").partition("  # ")
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(typed))
        assert ended.value.code == (1 if comment.startswith("exits 1") else 0), line
    assert (tmp_path / f"{name}.csv").read_text(encoding="utf-8") == expected(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_rows_that_the_page_shows_are_of_what_comes_out(name: str) -> None:
    header, *rows = SAMPLES[name][1].splitlines()
    written = expected(name).read_text(encoding="utf-8").splitlines()
    assert header == written[0]
    assert rows == [row for row in written if row in rows] != []


def test_every_expected_file_has_its_sample_and_its_definition() -> None:
    assert {path.name.removesuffix(".expected.csv") for path in (ROOT / "samples").glob("*.expected.csv")} == {*SAMPLES}
    for name in SAMPLES:
        definition = load_definition(ROOT / "jobs" / f"{name}.toml")
        assert definition.input.resolve().parent == ROOT / "samples"
        assert definition.input.stem == name
