"""Builds the documentation site and checks every link: python docs/build.py.

Warnings are errors. Links to files of the repository lead to copies under `site/source`: text as highlighted pages
with an anchor for each line, pictures and videos as they are. Nothing is read from the network, so addresses of other
sites are not tried.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("prefrl", "envs/prefrl_envs", "clip_viewer", "benchmarks/prefrl_benchmarks")
_REFERENCE = re.compile(r'(?P<before>(?:href|src)="?)(?P<url>\.\./[^"#\s>]+)(?:#L(?P<line>\d+))?')
_BINARY = {".png", ".mp4", ".svg"}


class Page(HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the references and the anchor of a tag."""
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.references.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def build(root: Path = ROOT) -> list[str]:
    """Build the site of a repository.

    Args:
        root: The repository.

    Returns:
        The broken links, a line each.

    Raises:
        subprocess.CalledProcessError: if the generator warns or fails.
    """
    site = root / "site"
    shutil.rmtree(site, ignore_errors=True)
    (root / "docs" / "modules.md").write_text(modules(root))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(root / "zensical.toml")]
    subprocess.run(command, cwd=root, check=True)
    (site / "build.py").unlink(missing_ok=True)
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        _link_to_copies(page, site, root)
    return [line for page in pages for line in broken_links(page, site)]


def modules(root: Path) -> str:
    """A page of every module, with the first line of its docstring."""
    lines = ["# Modules", "", "Every module, and the first line of its docstring."]
    for package in _PACKAGES:
        lines += ["", f"## {Path(package).name}", "", "| module | contents |", "| --- | --- |"]
        for path in sorted((root / package).rglob("*.py")):
            if said := ast.get_docstring(ast.parse(path.read_text())):
                name = path.relative_to((root / package).parent).as_posix()
                lines.append(f"| [`{name}`](../{path.relative_to(root).as_posix()}) | {said.splitlines()[0]} |")
    return "\n".join(lines) + "\n"


def broken_links(page: Path, site: Path) -> Iterator[str]:
    """The references of a page to files or anchors that do not exist in its site."""
    for reference in _page(page).references:
        url = urlsplit(reference)
        if url.scheme or url.netloc:
            continue
        path = unquote(url.path)
        target = site / path[1:] if path.startswith("/") else (page.parent / path).resolve() if path else page
        if target.is_dir():
            target /= "index.html"
        if not target.is_relative_to(site) or not target.is_file():
            yield f"{page.relative_to(site)}: {reference}: no such file"
        elif url.fragment and target.suffix == ".html" and url.fragment not in _page(target).anchors | {"__top"}:
            yield f"{page.relative_to(site)}: {reference}: no such anchor"


@cache
def _page(path: Path) -> Page:
    return Page(path.read_text())


def _link_to_copies(page: Path, site: Path, root: Path) -> None:
    """Copy what a page refers to outside of the site into the site, and refer to that."""

    def copied(match: re.Match[str]) -> str:
        source = (page.parent / match["url"]).resolve()
        if source.is_relative_to(site) or not source.is_relative_to(root) or not source.is_file():
            return match[0]
        copy = _copy(source, site / "source" / source.relative_to(root))
        up = "../" * len(page.parent.relative_to(site).parts)
        return f"{match['before']}{up}{copy.relative_to(site)}" + (f"#L-{match['line']}" if match["line"] else "")

    page.write_text(_REFERENCE.sub(copied, page.read_text()))


@cache
def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in _BINARY:
        return Path(shutil.copyfile(source, target))
    try:
        lexer = get_lexer_for_filename(source.name)
    except ClassNotFound:
        lexer = TextLexer()
    title = source.relative_to(ROOT).as_posix() if source.is_relative_to(ROOT) else source.name
    formatter = HtmlFormatter(full=True, title=title, linenos="inline", linespans="L", style="default")
    target = target.with_name(f"{target.name}.html")
    page = highlight(source.read_text(), lexer, formatter)
    target.write_text(page.replace("</style>", ":target { background: #fff3a3 }\n</style>", 1))
    return target


if __name__ == "__main__":
    try:
        sys.exit("\n".join(build()) or None)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
