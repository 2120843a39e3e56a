"""The documents under test: commands in them run, verbs in them exist, links lead somewhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchrunner.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TESTED = re.compile(r"<!-- tested -->\n```console\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands(block: str) -> list[str]:
    """Return what is typed in a console block, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line[2:].split("  #")[0].strip() for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_run(document: Path, tmp_path: Path) -> None:
    for folder, left_by_runs in (("jobs", ("*.db*", "*.csv")), ("samples", ("*.db*",))):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(*left_by_runs))
    for block in TESTED.findall(document.read_text(encoding="utf-8")):
        for line in commands(block):
            program, *arguments = shlex.split(line)
            assert program == "batchrunner"
            done = subprocess.run(
                [sys.executable, "-m", "batchrunner", *arguments],
                cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_are_only_shown_would_parse(document: Path) -> None:
    for block in CONSOLE.findall(document.read_text(encoding="utf-8")):
        for line in commands(block):
            if not line.startswith("batchrunner "):
                continue
            _, verb, *arguments = shlex.split(line)
            command = cli.get_command(cli.make_context("batchrunner", [], resilient_parsing=True), verb)
            assert command is not None, line
            command.make_context(verb, arguments)


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_nothing_is_promised_that_no_test_can_show(document: Path) -> None:
    text = " ".join(document.read_text(encoding="utf-8").lower().split())
    for boast in (
        "never lose",
        "loses none",
        "exactly once",
        "exactly-once",
        "crash-proof",
        "crashproof",
        "bulletproof",
    ):
        assert boast not in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_every_verb_is_documented_and_has_help_with_an_example() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    context = cli.make_context("batchrunner", [], resilient_parsing=True)
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        assert f"batchrunner {verb}" in readme
        assert "Example" in (command.help or ""), verb
        for option in command.params:
            assert option.param_type_name == "argument" or getattr(option, "help", None), f"{verb} {option.name}"


@pytest.mark.parametrize("name", ["security.md", "hazards.md"])
def test_tests_that_a_document_names_exist(name: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`|`(test_\w+)`", (ROOT / "docs" / name).read_text(encoding="utf-8"))
    assert len(named) > 30
    file = ""
    for path, test in named:
        file = path or file
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
