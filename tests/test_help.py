"""`--help` of verbs with many options."""

import re

import pytest
from click.testing import CliRunner

from batchrunner.cli import cli


@pytest.mark.parametrize("verb", ["run", "resume", "retry", "check"])
def test_options_stand_under_headings_each_once(verb: str) -> None:
    command = cli.get_command(cli.make_context("batchrunner", [verb], resilient_parsing=True), verb)
    assert command is not None
    shown = CliRunner().invoke(cli, [verb, "--help"]).output
    headings = re.findall(r"^(\S.*):$", shown, flags=re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert {"Limits", "Where requests go", "Options"} <= set(headings)
    _, _, options = shown.partition(headings[0])
    for param in command.params:
        for name in getattr(param, "opts", ()):
            if name.startswith("--"):
                found = re.findall(rf"^  (?:-\w, )?{re.escape(name)}\b(?!-)", options, flags=re.MULTILINE)
                assert len(found) == 1, name
