"""Every form of docs/inputs.md, line by line of its tables: what is accepted is sent as shown, what is refused says so."""

import gzip
import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from batchrunner.attachments import with_files
from batchrunner.cli.run import run, source_of
from batchrunner.errors import InputError, UsageError
from batchrunner.jobfile import LineError
from batchrunner.model import Request
from batchrunner.store.files import store_path

DOCUMENT = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text(encoding="utf-8")
MODEL = "claude-haiku-4-5"
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02"


def table(mark: str) -> list[list[str]]:
    """Return the cells of the table below *mark*, without their backticks."""
    block = DOCUMENT.split(f"<!-- {mark} -->\n", 1)[1].split("\n\n", 1)[0]
    return [
        [re.sub(r"\A`(.*)`\Z", r"\1", cell.strip()) for cell in line.strip("|").split(" |")]
        for line in block.splitlines()[2:]
    ]


def requests(name: str, content: str, options: str, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Write the job file and read it as the command line would; the store's name is asked for, too."""
    data = content.replace("⏎", "\n").replace("⇥", "\t").encode()
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    else:
        Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    given = run.make_context("run", [name, *shlex.split(options), "--model", MODEL]).params
    jobfile, db = given.pop("jobfile"), given.pop("db")
    if db is None:
        store_path(jobfile)
    source = source_of(jobfile, given)
    shaper = source.shaper()
    return [shaper.request(line) for line in source.lines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("dot.gif").write_bytes(GIF)
    Path("x.gif").write_bytes(GIF)
    Path("a.pdf").write_bytes(b"%PDF-1.4\n")


@pytest.mark.parametrize("line", table("accepted"), ids=lambda line: line[0])
def test_accepted_forms_are_sent_as_shown(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, content, options, sent = line
    (request,) = requests(name, content, options, monkeypatch)
    body: dict[str, Any] = json.loads(with_files(request.params, Path()))
    assert body.pop("model") == MODEL
    assert body.pop("max_tokens") == 1024
    assert body == json.loads(sent)


@pytest.mark.parametrize("line", table("refused"), ids=lambda line: line[3][:40])
def test_refused_lines_say_what_the_table_says(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, content, options, message = line
    with pytest.raises((InputError, UsageError)) as refused:
        requests(name, content, options, monkeypatch)
    assert message in str(refused.value)
    assert isinstance(refused.value, LineError) == message.startswith("line ")
