"""The account of the paper: every link of PAPER.md points at a line that says what the link says.

Line numbers go stale as files change. Run as a program, this file mends them: python tests/test_paper.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAPER = ROOT / "PAPER.md"
_LINK = re.compile(r"\[`(?P<text>[^`]+)`\]\((?P<path>[^)#]+)#L(?P<line>\d+)\)")


class Link(NamedTuple):
    """A link to a line of a file."""

    text: str
    path: str
    line: int

    def __str__(self) -> str:
        return f"[`{self.text}`]({self.path}#L{self.line})"


def links(page: str) -> list[Link]:
    return [Link(match["text"], match["path"], int(match["line"])) for match in _LINK.finditer(page)]


def lines_of(link: Link, root: Path) -> list[str]:
    path = root / link.path
    return path.read_text().splitlines() if path.is_file() else []


def defines(line: str, text: str) -> bool:
    """Whether a line defines a function or a class of this name, or assigns to it."""
    name = re.escape(text)
    return re.match(rf"\s*(?:(?:def|class) {name}\b|{name}\s*[:=])", line) is not None


def says(line: str, text: str) -> bool:
    """Whether a line may be linked to with this text; a test, only where it is defined."""
    return line.startswith(f"def {text}(") if text.startswith("test_") else text in line


def stale(link: Link, root: Path = ROOT) -> bool:
    lines = lines_of(link, root)
    return not (1 <= link.line <= len(lines) and says(lines[link.line - 1], link.text))


def mended(link: Link, root: Path = ROOT) -> Link:
    """The link with the only line that defines its text, or else the only one that contains it; as it was if fresh."""
    if not stale(link, root):
        return link
    lines = lines_of(link, root)
    found = [number for number, line in enumerate(lines, start=1) if says(line, link.text)]
    for numbers in ([number for number in found if defines(lines[number - 1], link.text)], found):
        if len(numbers) == 1:
            return link._replace(line=numbers[0])
    return link


def mend(page: str, root: Path = ROOT) -> str:
    """The page with every stale link mended that can be."""
    return _LINK.sub(lambda match: str(mended(links(match[0])[0], root)), page)


def rows(page: str) -> list[list[str]]:
    """The cells of each row of each table, heads apart."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    return [row for row in cells if row[0] != "detail" and not set(row[0]) <= {"-", ":"}]


def test_every_link_points_at_a_line_that_says_so() -> None:
    found = links(PAPER.read_text())
    assert len(found) > 100
    assert not [str(link) for link in found if stale(link)], "mend them with: python tests/test_paper.py"


def test_there_is_no_other_kind_of_link() -> None:
    page = PAPER.read_text()
    assert page.count("](") == len(links(page))


def test_every_row_says_where_a_detail_is_and_what_holds_it() -> None:
    found = rows(PAPER.read_text())
    assert len(found) > 60
    for row in found:
        assert len(row) == 4, row
        detail, where, held_by, note = row
        assert detail
        assert links(where) or (where, held_by) == ("not there yet", "none"), row
        assert held_by == "none" or links(held_by), row
        assert all(link.path.startswith("tests/") for link in links(held_by)), row
        assert not links(note), row


def test_stale_links_are_mended_and_others_are_left(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import rate\n\nrate = 1\nspeed = rate\nmaximum = 9  # speed\nspeed()\n")
    (tmp_path / "test_a.py").write_text("def test_it_is():\n    test_it()\ndef test_it():\n    pass\n")
    expected = {
        Link("rate", "a.py", 99): 3,  # its definition, out of three lines
        Link("rate", "a.py", 4): 4,  # fresh as it is
        Link("maximum", "a.py", 1): 5,
        Link("= 9", "a.py", 0): 5,  # no name, but the only such line
        Link("import", "a.py", 2): 1,
        Link("e", "a.py", 77): 77,  # could be anywhere
        Link("gone", "a.py", 2): 2,
        Link("rate", "gone.py", 2): 2,
        Link("test_it", "test_a.py", 2): 3,  # says so, but is not the definition
    }
    for link, line in expected.items():
        assert mended(link, tmp_path) == link._replace(line=line)
        assert stale(link._replace(line=line), tmp_path) == (line in {77, 2})
    page = "| detail [`rate`](a.py#L1) and [`rate`](a.py#L2), [`maximum`](a.py#L6) |"
    assert mend(page, tmp_path) == "| detail [`rate`](a.py#L1) and [`rate`](a.py#L3), [`maximum`](a.py#L5) |"


if __name__ == "__main__":
    old = PAPER.read_text()
    new = mend(old)
    if new != old:
        PAPER.write_text(new)
    changed = sum(before != after for before, after in zip(links(old), links(new), strict=True))
    left = [f"{link}: no line, or more than one, says so" for link in links(new) if stale(link)]
    print(f"{changed} line numbers mended")
    sys.exit("\n".join(left) or None)
