"""A run out of memory: it ends with a sentence, and what was saved stays."""

import sys
from pathlib import Path

import pytest

from batchrunner.errors import Exit
from faults.memory import starve


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of a process's memory is kept on Linux only")
def test_a_run_out_of_memory_ends_with_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    code, said, verdict = starve(tmp_path, requests=40)
    assert code == Exit.LIMIT
    assert "Traceback" not in said
    assert "-j" in said
    assert verdict.requests == 40
