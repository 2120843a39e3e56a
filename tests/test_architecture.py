"""The walls of the house: which room may import which, where each library stands, what start-up may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from store_helpers import building

PACKAGE = Path(__file__).parent.parent / "batchrunner"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Each room may import the rooms of lower levels, and within its own room.
LEVELS = (
    {"model", "errors", "clock", "audience", "slots", "failpoints", "drafts", "batch"},
    {"policy", "screen", "csv_cells", "outfile", "attachments"},
    {"settings", "advice", "catalogue", "endpoint_words", "cache_words", "prices"},
    {"tuning", "ruling", "cases"},
    {"api", "store", "jobfile", "limiter", "parking", "simulator", "progress", "export"},
    {"engines", "endpoint", "loading", "forecast", "lane", "stopping", "spool", "tomlfile", "counts", "choices"},
    {"endings", "keywords", "till"},
    {"definition", "endpoints", "bounds"},
    {"settling"},
    {"dispatcher", "preflight", "piloting", "holding", "destinations", "doctor", "batch_till"},
    {"keeping", "batch_records"},
    {"batch_desk", "batch_errands"},
    {"assembly"},
    {"report", "retuning"},
    {"shift"},
    {"batch_shift"},
    {"session"},
    {"runner", "streaming", "threaded", "wishes"},
    {"cli", "library"},
    {"__main__", "__init__"},
)
#: Rooms on one level that may know each other, one way.
SIDEWAYS = {("export", "store"), ("simulator", "policy"), ("engines", "api")}

#: Third-party libraries and the rooms that may import them.
LIBRARIES = {
    "anthropic": {"api"},
    "httpx2": {"api"},
    "truststore": {"api"},
    "aiohttp": {"api", "simulator"},
    "yarl": {"api"},
    "multidict": {"api", "simulator"},
    "aiolimiter": {"limiter"},
    "backoff": {"policy"},
    "jsonschema": {"policy"},
    "referencing": {"policy"},
    "sqlite_utils": {"store"},
    "sqlite3": {
        "forecast",
        "store",
        "piloting",
        "runner",
        "session",
        "shift",
        "batch_shift",
        "batch_errands",
        "assembly",
        "loading",
        "preflight",
    },
    "genai_prices": {"prices"},
    "tqdm": {"progress"},
    "click": {"cli"},
}
#: Of those, the ones that stand in a single module.
SINGLE = {
    "aiolimiter": "limiter.py",
    "backoff": "policy/retry.py",
    "genai_prices": "prices/package.py",
    "jsonschema": "policy/schemas.py",
    "tqdm": "progress.py",
}

#: What reading verbs must not load: they start in a fraction of a second.
HEAVY = {
    "anthropic",
    "httpx2",
    "aiohttp",
    "anyio",
    "asyncio",
    "tqdm",
    "aiolimiter",
    "pydantic",
    "jsonschema",
    "genai_prices",
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def level(name: str) -> int:
    return next(i for i, rooms in enumerate(LEVELS) if name in rooms)


def imports(path: Path) -> set[str]:
    """Return the dotted names a module imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "batchrunner":
                found |= {f"batchrunner.{alias.name}" for alias in node.names if alias.name != "__version__"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        if not name.startswith("batchrunner."):
            continue
        there = name.split(".")[1]
        if there == here or (here, there) in SIDEWAYS:
            continue
        assert level(there) < level(here), f"{here} must not import {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_stands_in_its_own_room(path: Path) -> None:
    for name in imports(path):
        library = name.split(".")[0]
        assert room(path) in LIBRARIES.get(library, {room(path)}), f"{library} does not belong into {room(path)}"


def test_libraries_that_may_have_to_be_replaced_stand_in_one_module() -> None:
    for library, module in SINGLE.items():
        users = [
            str(path.relative_to(PACKAGE)) for path in MODULES if library in {n.split(".")[0] for n in imports(path)}
        ]
        assert users == [module]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_grows_unnoticed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= 50, f"{node.name} has {size} lines"


@pytest.mark.parametrize(
    "verb",
    [
        ["--help"],
        ["status", "--help"],
        ["completion", "--help"],
        ["status"],
        ["errors"],
        ["export"],
        ["runs"],
        ["spend"],
    ],
    ids=" ".join,
)
def test_reading_verbs_load_nothing_heavy(verb: list[str], tmp_path: Path) -> None:
    store = tmp_path / "jobs.db"
    with building(store) as maker:
        maker.take_in([])
    program = (
        "import sys\n"
        "from batchrunner.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    where = [] if "--help" in verb else [str(store)]
    done = subprocess.run(
        [sys.executable, "-c", program, *verb, *where], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split("LOADED")[1].split())
    assert loaded & HEAVY == set()


def test_the_public_names_are_what_they_say() -> None:
    import batchrunner

    assert batchrunner.__version__.count(".") == 2
    assert (PACKAGE / "py.typed").exists()
