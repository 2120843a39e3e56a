import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchrunner.errors import Exit
from store_helpers import typed
from test_architecture import HEAVY


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    result = typed("completion", shell)
    assert result.exit_code == Exit.OK
    assert f"_BATCHRUNNER_COMPLETE={shell}_complete" in result.stdout
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("batchrunner ru", "plain,run"),
        ("batchrunner export --fl", "plain,--flatten"),
        ("batchrunner run --accep", "plain,--accept"),
        ("batchrunner errors --class trunc", "plain,truncated"),
        ("batchrunner export --format b", "plain,batch-results"),
        ("batchrunner run jo", "file,jo"),
    ],
)
def test_verbs_options_and_choices_complete_without_loading_anything_heavy(
    words: str, found: str, tmp_path: Path
) -> None:
    program = (
        "import sys\nfrom batchrunner.cli import main\n"
        "try:\n    main([])\nfinally:\n    print('LOADED', *{m.split('.')[0] for m in sys.modules}, file=sys.stderr)\n"
    )
    asked = {"_BATCHRUNNER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | asked,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found in done.stdout.splitlines(), done.stderr
    assert set(done.stderr.split("LOADED")[1].split()) & HEAVY == set()
