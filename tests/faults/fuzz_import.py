"""Coverage-guided fuzzing of the reading of job files, for `make fuzz`: `python -m faults.fuzz_import SECONDS`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 600
FORMS = ("jsonl", "csv", "tsv", "txt")


def main(seconds: int) -> int:
    """Fuzz for so many seconds; whatever it finds ends it with a traceback and the input in a file `crash-...`."""
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        sys.stderr.write("skipped: Atheris is not installed here (it has no wheel for every Python and system)\n")
        return 0
    with atheris.instrument_imports(include=["batchrunner.jobfile"]):
        from batchrunner.jobfile import Format
        from faults.importing import check_bytes, check_lines

    def one(data: bytes) -> None:
        if not data:
            return
        kind, rest = data[0], data[1:]
        if kind % 2:
            check_lines(rest.split(b"\n"))
        else:
            check_bytes(rest, Format(FORMS[kind // 2 % 4]), is_table=bool(kind // 8 % 2))

    seeds = Path("seeds")
    seeds.mkdir(exist_ok=True)
    for number, path in enumerate(sorted(ROOT.glob("samples/*")) + sorted(ROOT.glob("jobs/*"))):
        for kind in range(16):
            (seeds / f"{number}-{kind}").write_bytes(bytes([kind]) + path.read_bytes()[:2000])
    options = [
        sys.argv[0],
        "seeds",
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup(options, one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
