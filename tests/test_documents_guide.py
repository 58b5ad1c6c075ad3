"""docs/documents.md: every row has a status and a reason, and the test or file that holds it exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "documents.md").read_text(encoding="utf-8")
STATUS = re.compile(r"(works|differs|missing)(: .{8,})?")


def sections(text: str) -> dict[str, list[list[str]]]:
    """Cells of the rows of each section, by the first word of its title."""
    found = {}
    for section in text.split("\n## ")[1:]:
        rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
        found[section.split()[0]] = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return found


SECTIONS = sections(GUIDE)
ROWS = [(name, row) for name, rows in SECTIONS.items() if name != "Summary" for row in rows]


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda value: value[0] if isinstance(value, list) else value)
def test_row_has_a_status_and_what_holds_it(name: str, row: list[str]) -> None:
    assert len(row) == 4, row
    _, words, status, held = row
    assert words and STATUS.fullmatch(status), status
    assert status == "works" or ":" in status  # other ones have a reason
    places = re.findall(r"`([^`]+)`", held)
    assert places or status.startswith("missing")
    for place in places:
        file, _, test = place.partition("::")
        assert (ROOT / file).exists(), file
        assert not test or test in functions(ROOT / file), place


def test_summary_counts_the_rows() -> None:
    counted = {
        name: [str(sum(row[2].startswith(kind) for row in rows)) for kind in ("works", "differs", "missing")]
        for name, rows in SECTIONS.items()
        if name != "Summary"
    }
    assert {row[0].split()[0]: row[3:6] for row in SECTIONS["Summary"]} == counted


def test_every_row_of_the_audit_is_in_the_guide(shared_data: Path) -> None:
    audit = sections((shared_data.parent / "documents_audit.md").read_text(encoding="utf-8"))
    asked = [(name, row[0]) for name, rows in audit.items() for row in rows]
    assert len(asked) == 99
    given = {(name, row[0].replace("`", "")) for name, row in ROWS}
    assert not [row for row in asked if row not in given]
