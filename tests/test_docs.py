"""README and documentation: examples run, commands parse, and paths and links exist."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from labelled import add_labels, make_run, query

from prefrl.commands import cli
from prefrl.commands.arguments import refused_in_one_line
from prefrl.config.request import Request
from prefrl.errors import UsageError
from prefrl.recipes import resolve

ROOT = Path(__file__).resolve().parent.parent
# The page of modules is made anew with each build of the site, which checks its links.
DOCS = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "modules.md"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\((?P<path>[^)#:\s]+)(?:#[^)]*)?\)")
_SHORT = {r"labels=\d+": "labels=8", r"steps=[\d_]+": "steps=4096"}
"""What makes an example short."""
OWN = {"mymodule:MyEnv-v0": "hopper", "walkenv:Walk-v0": "hopper"}
"""Stand-ins for environments that only exist in examples."""


def blocks(page: Path, language: str) -> Iterator[re.Match[str]]:
    return (match for match in _BLOCK.finditer(page.read_text()) if match["language"] == language)


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `prefrl` command in the shell examples of a page."""
    lines = [line for block in blocks(page, "bash") for line in block["code"].splitlines()]
    called = [part.strip() for line in lines for part in line.split("&&")]
    words = [shlex.split(part, comments=True) for part in called]
    return [each[1:] for each in words if each and Path(each[0]).name == "prefrl"]


class Called(Exception):  # noqa: N818 - no error
    """Carries what a command would have been called with."""


def recording(app: tyro.extras.SubcommandApp) -> tyro.extras.SubcommandApp:
    """A command line of the same arguments, whose commands raise `Called`."""

    def raising(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def record(*args: Any, **kwargs: Any) -> None:
            raise Called(function, args, kwargs)

        return record

    copy = tyro.extras.SubcommandApp()
    for name, spec in app._subcommands.items():
        nested = isinstance(spec.target, tyro.extras.SubcommandApp)
        copy.command(recording(spec.target) if nested else raising(spec.target), name=name, help=spec.help)
    return copy


def parse(arguments: list[str]) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    app = recording(cli.app)
    with refused_in_one_line(app, arguments), pytest.raises(Called) as called:
        app.cli(args=arguments)
    function, args, kwargs = called.value.args
    return function, args, kwargs


ALL_COMMANDS = sorted({" ".join(each) for page in PAGES for each in commands(page)})


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_a_command_that_is_shown_can_be_used(line):
    function, _, kwargs = parse(shlex.split(line))
    if function is cli.train:
        request = kwargs["request"]
        task = OWN.get(request.task, request.task)
        resolve(dataclasses.replace(request, task=task, mode="async", labels=None, steps=None, env_kwargs={}))


def test_commands_are_found_and_wrong_ones_refused():
    assert len(ALL_COMMANDS) > 40
    assert parse(["train", "hopper", "--labels", "350"])[2]["request"] == Request("hopper", labels=350)
    with pytest.raises(UsageError, match="--label"):
        parse(["train", "hopper", "--label-count", "350"])
    with pytest.raises(UsageError, match="walk"):
        parse(["labels", "walk", "RUN"])


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=lambda page: page.name)
def test_python_examples_run(page, tmp_path):
    for number, block in enumerate(blocks(page, "python")):
        code = block["code"]
        for pattern, short in _SHORT.items():
            code = re.sub(pattern, short, code)
        path = tmp_path / (block["title"] or f"example_{number}.py")
        path.write_text(code)
        done = subprocess.run(
            [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{page.name}, {path.name}: {done.stderr}"
    files = {path.name for path in tmp_path.glob("runs/*/*") if not path.name.startswith(".")}
    always = {name for name, what in table("formats.md", "file") if "STEPS" not in name and "only with" not in what}
    assert files == {name.strip("/") for name in always} or (page.name == "contributing.md" and not files)


def test_the_columns_of_the_label_view_are_documented(tmp_path):
    run = make_run(tmp_path / "run")
    add_labels(run, 2)
    columns = [name for _, name, *_ in query(run, "pragma table_info(labels)")]
    shown = [column for names, _ in table("formats.md", "column") for column in names.split("`, `")]
    assert shown == columns


def table(page: str, head: str) -> list[tuple[str, str]]:
    """The rows of the page's two-column table whose first column has this head, without backticks around it."""
    text = (ROOT / "docs" / page).read_text()
    (body,) = re.findall(rf"^\| {head} \| .*\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [line.strip("|\n").split(" | ", 1) for line in body.splitlines()]
    return [(first.strip().strip("`"), second.strip()) for first, second in rows]


@pytest.mark.slow
def test_the_tutorial_s_environment_can_be_trained_in(tmp_path):
    page = ROOT / "docs" / "own-environment.md"
    (block,) = [block for block in blocks(page, "python") if block["title"]]
    (tmp_path / block["title"]).write_text(block["code"])
    command = [sys.executable, "-m", "prefrl", "train", "walkenv:Walk-v0", "--teacher", "human", "--env-kwargs"]
    command += ["start=2.5", "--steps", "50000", "--labels", "100", "--out", "runs/walk"]
    clips = tmp_path / "runs" / "walk" / "clips"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("compare its clips with" in line for line in process.stderr)
            deadline = time.monotonic() + 240
            while not (rendered := list(clips.glob("*.avi"))) and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.2)
            assert rendered
        finally:
            process.terminate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_exist(page):
    missing = [path for path in _LINK.findall(page.read_text()) if not (page.parent / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_names_in_code_exist(page):
    """`tests/fuzz.py` is a file, `prefrl.seeding` a module or a member of one."""
    prose = _BLOCK.sub("", page.read_text())
    for path in re.findall(r"`(?:python )?((?:prefrl|envs|clip_viewer|benchmarks|tests|docs)/[\w./-]+)", prose):
        assert (ROOT / path).exists(), path
    groups = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"])
    for name in set(re.findall(r"`(prefrl(?:\.\w+)+)[`(]", prose)) - groups:
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member) or importlib.util.find_spec(name), name


def test_the_readme_takes_two_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_ci_runs_the_readme_s_test_command():
    text = (ROOT / "README.md").read_text()
    script = (ROOT / ".ci" / "run").read_text()
    (command,) = re.findall(r"<!-- test command -->\n```bash\n(.*)\n```\n", text)
    assert "<!-- test command -->" in script
    (split,) = re.findall(r"^install=.* tests=.*$", script, re.MULTILINE)
    words = ["bash", "-c", f'{split}; echo "$install"; echo "$tests"']
    done = subprocess.run(words, env=os.environ | {"command": command}, capture_output=True, text=True, check=True)
    install, tests = done.stdout.splitlines()
    assert f"{install} && {tests}" == command
    assert tests == ".venv/bin/pytest -n 4 --dist worksteal"
    assert "pip install" in install
    assert all(f'bash -euo pipefail -c "{part}"' in script for part in ("$install", "$tests"))


def test_licence_and_citation_agree_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert (
        (ROOT / "LICENSE").read_text().startswith(f"{project['license']} License\n\nCopyright (c) 2026 prefrl contrib")
    )


def load_build() -> Any:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_warnings_and_without_broken_links():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").glob("*.md"):
        assert (ROOT / "site" / f"{page.stem}.html").is_file()
    api = (ROOT / "site" / "api.html").read_text()
    assert all(f'id="prefrl.{name}"' in api for name in __import__("prefrl").__all__)


def test_broken_links_and_anchors_are_found(tmp_path):
    build = load_build()
    (tmp_path / "there.html").write_text('<h1 id="here">x</h1>')
    page = tmp_path / "index.html"
    page.write_text(
        '<a href="there.html#here"></a><a href="there.html#gone"></a><a href="gone.html"></a><img src="gone.png">'
        '<a href="/there.html"></a><a href="#nowhere"></a><a href="https://example.org"></a><a href="../up.html"></a>'
    )
    assert [line.split(": ", 1)[1] for line in build.broken_links(page, tmp_path)] == [
        "there.html#gone: no such anchor",
        "gone.html: no such file",
        "gone.png: no such file",
        "#nowhere: no such anchor",
        "../up.html: no such file",
    ]
