"""The table of what really ran: a part that ran replaces its own line, and no other."""

from pathlib import Path

from faults.long_run import LongRun, Sample
from faults.soak import PAGE, PARTS, write_line


def table(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").split("<!-- measured -->\n")[1].split("<!-- end -->")[0]
    return text.splitlines()[2:]


def test_a_part_that_ran_replaces_its_own_line_in_its_own_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- measured -->\n| a |\n| - |\n<!-- end -->\n\nThe rest.\n", encoding="utf-8")
    first, second = (part.what for part in list(PARTS.values())[:2])
    write_line(page, second, f"| {second} | two |")
    write_line(page, first, f"| {first} | one |")
    assert table(page) == [f"| {first} | one |", f"| {second} | two |"]
    write_line(page, second, f"| {second} | three |")
    assert table(page) == [f"| {first} | one |", f"| {second} | three |"]
    assert page.read_text(encoding="utf-8").startswith("# Page\n\n<!-- measured -->")
    assert page.read_text(encoding="utf-8").endswith("<!-- end -->\n\nThe rest.\n")


def test_the_page_has_a_line_for_every_part_and_no_other() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in table(PAGE)] == [part.what for part in PARTS.values()]


def test_the_slope_of_memory_is_that_within_each_process() -> None:
    def life(level_mb: float, mb_per_h: float) -> list[Sample]:
        return [Sample(at, level_mb + mb_per_h * at / 3600, 10, 1.0) for at in range(80, 600, 2)]

    assert abs(LongRun(lives=[life(90, 0), life(400, 0)]).slope_mb_per_h) < 1e-6
    assert abs(LongRun(lives=[life(90, 12), life(400, 12)]).slope_mb_per_h - 12) < 1e-6
    assert LongRun(lives=[[Sample(1, 90, 10, 1.0)]]).slope_mb_per_h == 0
