"""The page of a study: its claim, what was expected, and what was found."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2

from prefrl.storage.files import write_atomically
from prefrl_benchmarks.report.style import panel, write_figure
from prefrl_benchmarks.studies.study import Outcome, Study

_HTML = Path(__file__).parent / "study.html.jinja"
_MARKDOWN = Path(__file__).parent / "study.md.jinja"


def write_page(study: Study, outcome: Outcome, out: Path) -> None:
    """Write `report.html`, which needs no other file, and the same as Markdown with its figure beside it."""
    if outcome.panels:
        write_figure(out / study.name, outcome.panels, columns=3)
    images = [base64.b64encode(panel(draw)).decode() for draw in outcome.panels]
    for template, name, escape in ((_HTML, "report.html", True), (_MARKDOWN, f"{study.name}.md", False)):
        environment = jinja2.Environment(
            autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        text = environment.from_string(template.read_text()).render(study=study, outcome=outcome, images=images)
        write_atomically(out / name, text.encode())
