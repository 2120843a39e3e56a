"""What bad lines, chosen parts and local files come to in a run."""

import gzip
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from batchrunner.endpoint import Endpoint
from batchrunner.errors import ChangedRequestsError, Exit, InputError, UsageError
from batchrunner.export import Format as ExportFormat
from batchrunner.export import Options, export
from batchrunner.jobfile import Defaults, Format, Template
from batchrunner.loading import Source
from batchrunner.model import State
from batchrunner.policy.sampling import Sampling
from batchrunner.progress import Silent
from batchrunner.report import Job, Report
from batchrunner.runner import run
from batchrunner.settings import RunSettings
from batchrunner.store.read import Reader
from batchrunner.store.rows import Chosen
from batchrunner.store.selection import Selection
from running import KEY, MODEL, job_file, rows, simulator

GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02"
STATES = "SELECT custom_id, state, error_class, attempts FROM requests ORDER BY line"


def source(path: Path, prompt: str | None = None, **fields: Any) -> Source:
    template = Template(prompt) if prompt is not None else None
    return Source(path, Defaults(model=MODEL, max_tokens=64), template, prompt, **fields)


async def work(
    url: str, job: Source | Path, sampling: Sampling | None = None, put_back: Selection | None = None, **given: Any
) -> Report:
    """Run a job file, or a store alone."""
    store = job.with_suffix(".db") if isinstance(job, Path) else job.path.with_suffix(".db")
    wanted = Job(store, job if isinstance(job, Source) else None, put_back=put_back, **given)
    settings = RunSettings(sampling=sampling or Sampling())
    return await run(wanted, settings, Endpoint(url), reporter=Silent(StringIO()))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


# Bad lines.


async def test_bad_lines_are_recorded_as_failed_and_the_others_sent(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": ""}\nnot json\n')
    async with simulator() as (url, ledger):
        report = await work(url, source(path, skip_invalid=True))
        assert report.exit_code is Exit.SOME_FAILED
        assert ledger.arrivals == 1
        found = rows(path.with_suffix(".db"), STATES)
        assert found[:2] == [("a", "succeeded", None, 1), ("b", "failed", "input", 0)]
        assert found[2][1:] == ("failed", "input", 0)
        again = await work(url, source(path, skip_invalid=True))
        assert (again.counts.sent, again.totals.failed) == (0, 2)


async def test_a_bad_line_is_never_sent_by_a_retry_but_taken_up_once_it_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": ""}\n')
    async with simulator() as (url, ledger):
        await work(url, source(path, skip_invalid=True))
        retried = await work(url, path, put_back=Selection())
        assert (retried.put_back, retried.counts.sent) == (0, 0)
        path.write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": "two"}\n')
        mended = await work(url, source(path))
        assert mended.exit_code is Exit.OK
        assert ledger.arrivals == 2
        assert rows(path.with_suffix(".db"), STATES)[1] == ("b", "succeeded", None, 1)


async def test_a_line_that_turned_bad_after_it_was_answered_is_a_changed_request(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    async with simulator() as (url, _):
        await work(url, source(path))
        job_file(path, [{"id": "r0", "prompt": ""}])
        with pytest.raises(ChangedRequestsError):
            await work(url, source(path, skip_invalid=True))
        kept = await work(url, source(path, skip_invalid=True), on_change="keep")
        assert (kept.totals.succeeded, kept.totals.failed) == (1, 0)
        job_file(path, [{"id": "r0", "prompt": " "}])
        rerun = await work(url, source(path, skip_invalid=True), on_change="rerun")
        assert (rerun.totals.failed, rerun.counts.sent) == (1, 0)


async def test_bad_rows_of_a_table_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbfid,q\nr1,one\nr2\nr3,caf\xe9\nr4,"t\nwo"\nr5\n'))
    async with simulator() as (url, _):
        job = Job(tmp_path / "jobs.db", source(path, "{q}", skip_invalid=True))
        report = await run(job, RunSettings(), Endpoint(url), reporter=Silent(StringIO()))
    assert (report.totals.succeeded, report.totals.failed) == (2, 3)
    found = rows(tmp_path / "jobs.db", "SELECT line, error_message FROM requests WHERE state = 'failed' ORDER BY line")
    assert found == [
        (3, "row 2: 1 cell, but the header has 2"),
        (4, "row 3: not UTF-8: byte 0xe9 in the column 'q': save the file as UTF-8"),
        (7, "row 5: 1 cell, but the header has 2"),
    ]


# A part of a job.


async def test_a_sample_is_worked_on_alone_and_the_same_command_goes_on_with_it(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Say {n}." for n in range(30)])
    async with simulator() as (url, ledger):
        first = await work(url, source(path), Sampling(sample=7, seed=3))
        assert (first.exit_code, first.totals.requests, first.totals.pending) == (Exit.OK, 7, 0)
        again = await work(url, source(path), Sampling(sample=7, seed=3))
        assert (again.counts.sent, again.totals.succeeded) == (0, 7)
        drawn = rows(path.with_suffix(".db"), "SELECT custom_id FROM requests WHERE state = 'succeeded'")
        await work(url, source(path), Sampling(sample=7, seed=4))
        more = rows(path.with_suffix(".db"), "SELECT custom_id FROM requests WHERE state = 'succeeded'")
        assert len(drawn) == 7 < len(more)
        rest = await work(url, source(path))
        assert (rest.totals.succeeded, ledger.arrivals) == (30, 30)


async def test_failures_outside_of_the_selection_do_not_count(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "[[sim:400]] two", "three"])
    async with simulator() as (url, _):
        assert (await work(url, source(path), Sampling(ids=["r1"]))).exit_code is Exit.SOME_FAILED
        assert (await work(url, source(path), Sampling(ids=["r0"]))).exit_code is Exit.OK
        found = rows(path.with_suffix(".db"), "SELECT state FROM requests ORDER BY line")
    assert found == [("succeeded",), ("failed",), ("pending",)]


async def test_retries_of_chosen_requests_come_back_and_those_of_others_wait(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:500*1]] one", "two", "three"])
    async with simulator() as (url, _):
        report = await work(url, source(path), Sampling(ids=["r0", "r2"], shuffle=True))
    assert (report.totals.succeeded, report.counts.retries) == (2, 1)


async def test_an_id_that_no_line_has_is_refused(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    async with simulator() as (url, ledger):
        with pytest.raises(UsageError, match="No request of the job file has the id 'nobody'"):
            await work(url, source(path), Sampling(ids=["nobody"]))
    assert ledger.arrivals == 0


# Local files.


def with_image(path: Path, folder: Path) -> Source:
    block = {"type": "image", "source": {"type": "file", "path": "dot.gif"}}
    job_file(path, [{"id": "a", "messages": [{"role": "user", "content": [block]}]}])
    folder.mkdir(exist_ok=True)
    (folder / "dot.gif").write_bytes(GIF)
    return source(path, files=folder)


async def test_the_store_holds_path_and_hash_and_the_api_gets_the_content(tmp_path: Path) -> None:
    job = with_image(tmp_path / "jobs.jsonl", tmp_path / "pictures")
    async with simulator() as (url, ledger):
        report = await work(url, job)
        assert report.exit_code is Exit.OK
    ((params,),) = rows(tmp_path / "jobs.db", "SELECT params FROM inputs")
    kept = json.loads(params)["messages"][0]["content"][0]["source"]
    assert kept.keys() == {"type", "path", "media_type", "sha256"}
    assert kept["path"] == "dot.gif"
    assert "R0lG" not in params
    assert ledger.arrivals == 1


async def test_a_file_with_new_content_is_a_changed_request(tmp_path: Path) -> None:
    job = with_image(tmp_path / "jobs.jsonl", tmp_path / "pictures")
    async with simulator() as (url, _):
        await work(url, job)
        (tmp_path / "pictures" / "dot.gif").write_bytes(GIF + b"!")
        with pytest.raises(ChangedRequestsError):
            await work(url, job)


async def test_what_is_left_of_a_job_with_files_names_them_as_its_lines_did_and_runs(tmp_path: Path) -> None:
    job = with_image(tmp_path / "jobs.jsonl", tmp_path / "pictures")
    left = tmp_path / "left.jsonl"
    async with simulator() as (url, _):
        with pytest.raises(UsageError):  # the lines are taken in, and nothing is sent
            await work(url, job, Sampling(ids=["nobody"]))
        with Reader(tmp_path / "jobs.db") as reader:
            export(reader, left, ExportFormat.JOB_FILE, Options(Chosen(State.PENDING)))
        block = json.loads(left.read_text())["params"]["messages"][0]["content"][0]
        assert block == {"type": "image", "source": {"type": "file", "path": "dot.gif"}}
        report = await work(url, replace(job, path=left))
    assert report.totals.succeeded == 1
    hashes = [rows(tmp_path / name, "SELECT params_hash FROM requests") for name in ("jobs.db", "left.db")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("harm", ["gone", "changed", "a link to elsewhere"])
async def test_a_file_that_is_not_what_it_was_when_it_is_to_be_sent_fails_its_request(
    tmp_path: Path, harm: str
) -> None:
    job = with_image(tmp_path / "jobs.jsonl", tmp_path / "pictures")
    image = tmp_path / "pictures" / "dot.gif"
    async with simulator() as (url, ledger):
        with pytest.raises(UsageError):  # the lines are taken in, and nothing is sent
            await work(url, job, Sampling(ids=["nobody"]))
        image.unlink()
        if harm == "changed":
            image.write_bytes(GIF + b"!")
        elif harm == "a link to elsewhere":
            (tmp_path / "secret.gif").write_bytes(GIF)
            image.symlink_to(tmp_path / "secret.gif")
        report = await work(url, job.path)
        assert report.exit_code is Exit.SOME_FAILED
        assert ledger.arrivals == 0
    found = rows(tmp_path / "jobs.db", "SELECT error_class FROM requests")
    assert found == [("input",)]


async def test_links_out_of_the_folder_and_missing_folders_are_refused(tmp_path: Path) -> None:
    job = with_image(tmp_path / "jobs.jsonl", tmp_path / "pictures")
    (tmp_path / "pictures" / "dot.gif").unlink()
    (tmp_path / "secret.gif").write_bytes(GIF)
    (tmp_path / "pictures" / "dot.gif").symlink_to(tmp_path / "secret.gif")
    async with simulator() as (url, _):
        with pytest.raises(InputError, match="lies outside of"):
            await work(url, job)
        with pytest.raises(UsageError, match="no such directory"):
            await work(url, replace(job, files=tmp_path / "nowhere"))


# What is read anew.


async def test_another_format_of_the_same_bytes_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.data"
    path.write_text("line\none\n")
    async with simulator() as (url, _):
        first = await work(url, source(path, form=Format.TXT))
        assert first.totals.requests == 2
        second = await work(url, source(path, "{line}", form=Format.CSV))
        assert (second.totals.requests, second.totals.succeeded) == (1, 1)
