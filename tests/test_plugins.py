"""Commands that other packages add through entry points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tyro.extras import SubcommandApp

from prefrl.commands import plugins
from prefrl.commands.plugins import GROUP, mount_plugins

PLUGIN = '''"""Greet people.

More about it.
"""

from tyro.extras import SubcommandApp

app = SubcommandApp()


@app.command
def hello(name: str) -> str:
    """Say hello."""
    return f"hello {name}"


def wave(times: int = 1) -> int:
    """Wave a hand."""
    return times
'''


def install(folder: Path, *lines: str) -> None:
    """A package with these entry points, whose module is `greeter`."""
    (folder / "greeter.py").write_text(PLUGIN)
    metadata = folder / "greeter-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")


def mounted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SubcommandApp:
    monkeypatch.syspath_prepend(folder)
    app = SubcommandApp()
    mount_plugins(app)
    return app


def test_an_installed_package_adds_functions_and_nested_apps(tmp_path: Path, monkeypatch, capsys) -> None:
    install(tmp_path, "greet = greeter:app", "wave = greeter:wave")
    app = mounted(tmp_path, monkeypatch)
    assert app.cli(args=["greet", "hello", "--name", "Ann"]) == "hello Ann"
    assert app.cli(args=["wave", "--times", "3"]) == 3
    with pytest.raises(SystemExit):
        app.cli(args=["--help"])
    shown = capsys.readouterr().out
    assert "Greet people." in shown
    assert "Wave a hand." in shown
    assert "More about it." not in shown


@pytest.mark.parametrize("value", ["nowhere:app", "greeter:missing", "greeter:__name__"])
def test_a_plugin_that_cannot_be_loaded_is_reported_and_skipped(
    value: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    install(tmp_path, f"broken = {value}", "wave = greeter:wave")
    app = mounted(tmp_path, monkeypatch)
    assert app.cli(args=["wave"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"prefrl: the command broken ({value}) cannot be loaded: ")


def test_a_plugin_cannot_replace_a_command_of_prefrl(tmp_path: Path) -> None:
    install(tmp_path, "tasks = greeter:wave")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['prefrl', 'tasks', '--help']\n"
    script += "from prefrl.commands.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "List the tasks" in done.stdout


def test_the_command_line_names_no_other_package() -> None:
    """The viewer and the benchmarks are found through the same entry points."""
    names = {entry_point.name for entry_point in plugins.entry_points(group=GROUP)}
    assert {"bench", "label"} <= names
