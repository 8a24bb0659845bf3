"""The account of the paper: every link of docs/paper.md points at a line that says what the link says.

Line numbers go stale as files change, and paths as files move. Run as a program, this file mends them:
python tests/test_paper.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAPER = ROOT / "docs" / "paper.md"
_SOURCES = ("prefrl", "envs", "clip_viewer", "benchmarks")
_LINK = re.compile(r"\[`(?P<text>[^`]+)`\]\((?P<path>[^)#]+)#L(?P<line>\d+)\)")


class Link(NamedTuple):
    """A link to a line of a file, by its path from the page."""

    text: str
    path: str
    line: int

    def __str__(self) -> str:
        return f"[`{self.text}`]({self.path}#L{self.line})"


def links(page: str) -> list[Link]:
    return [Link(match["text"], match["path"], int(match["line"])) for match in _LINK.finditer(page)]


def lines_of(link: Link, folder: Path) -> list[str]:
    path = folder / link.path
    return path.read_text().splitlines() if path.is_file() else []


def defines(line: str, text: str) -> bool:
    """Whether a line defines a function or a class of this name, or assigns to it."""
    name = re.escape(text)
    return re.match(rf"\s*(?:(?:def|class) {name}\b|{name}\s*[:=])", line) is not None


def says(line: str, text: str) -> bool:
    """Whether a line may be linked to with this text; a test, only where it is defined."""
    return line.startswith(f"def {text}(") if text.startswith("test_") else text in line


def stale(link: Link, folder: Path = PAPER.parent) -> bool:
    lines = lines_of(link, folder)
    return not (1 <= link.line <= len(lines) and says(lines[link.line - 1], link.text))


def mended(link: Link, folder: Path = PAPER.parent) -> Link:
    """The link with the only line that defines its text, or else the only one that contains it; as it was if fresh."""
    if not stale(link, folder):
        return link
    link = followed(link, folder)
    lines = lines_of(link, folder)
    found = [number for number, line in enumerate(lines, start=1) if says(line, link.text)]
    for numbers in ([number for number in found if defines(lines[number - 1], link.text)], found):
        if len(numbers) == 1:
            return link._replace(line=numbers[0])
    return link


def followed(link: Link, folder: Path) -> Link:
    """The link to where its file went, or as it was.

    That is the file of the same name that says its text, or else the only one that defines it, or that says it. A test
    is looked for among the tests, and anything else among the other files.
    """
    if (folder / link.path).is_file():
        return link
    root = folder.parent
    sources = ("tests",) if link.path.startswith("../tests/") else _SOURCES
    texts = {path: path.read_text().splitlines() for name in sources for path in sorted((root / name).rglob("*.py"))}
    saying = [path for path, lines in texts.items() if any(says(line, link.text) for line in lines)]
    defining = [path for path in saying if any(defines(line, link.text) for line in texts[path])]
    for paths in ([path for path in saying if path.name == Path(link.path).name], defining, saying):
        if len(paths) == 1:
            return link._replace(path=f"../{paths[0].relative_to(root).as_posix()}")
    return link


def mend(page: str, folder: Path = PAPER.parent) -> str:
    """The page with every stale link mended that can be."""
    return _LINK.sub(lambda match: str(mended(links(match[0])[0], folder)), page)


def rows(page: str) -> list[list[str]]:
    """The cells of each row of each table, heads apart."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    return [row for row in cells if row[0] != "detail" and not set(row[0]) <= {"-", ":"}]


def test_every_link_points_at_the_line_of_its_text() -> None:
    found = links(PAPER.read_text())
    assert len(found) > 100
    assert not [str(link) for link in found if stale(link)], "mend them with: python tests/test_paper.py"


def test_there_is_no_other_kind_of_link() -> None:
    page = PAPER.read_text()
    assert page.count("](") == len(links(page))


def test_every_row_names_the_code_and_the_test_of_a_detail() -> None:
    found = rows(PAPER.read_text())
    assert len(found) > 60
    for row in found:
        assert len(row) == 4, row
        detail, code, test, note = row
        assert detail
        assert links(code) or (code, test) == ("not there yet", "none"), row
        assert test == "none" or links(test), row
        assert all(link.path.startswith("../tests/") for link in links(test)), row
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


def test_links_follow_files_that_moved(tmp_path: Path) -> None:
    for name, content in {
        "prefrl/reward/loss.py": "rate = 1\nspeed = 2\n",
        "prefrl/other.py": "import rate\nweight = 3\nuse(speed)\n",
        "tests/test_a.py": "def test_it():\n    use(weight)\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    folder = tmp_path / "docs"
    folder.mkdir()
    expected = {
        Link("rate", "../prefrl/loss.py", 9): Link("rate", "../prefrl/reward/loss.py", 1),  # a file of its name
        Link("weight", "../prefrl/gone.py", 9): Link("weight", "../prefrl/other.py", 2),  # the only file that says it
        Link("speed", "../prefrl/gone.py", 9): Link("speed", "../prefrl/reward/loss.py", 2),  # defined there alone
        Link("r", "../prefrl/gone.py", 9): Link("r", "../prefrl/gone.py", 9),  # could be either
        Link("test_it", "../tests/test_gone.py", 9): Link("test_it", "../tests/test_a.py", 1),
    }
    for link, there in expected.items():
        assert mended(link, folder) == there


if __name__ == "__main__":
    old = PAPER.read_text()
    new = mend(old)
    if new != old:
        PAPER.write_text(new)
    changed = sum(before != after for before, after in zip(links(old), links(new), strict=True))
    left = [f"{link}: no line, or more than one, says so" for link in links(new) if stale(link)]
    print(f"{changed} links mended")
    sys.exit("\n".join(left) or None)
