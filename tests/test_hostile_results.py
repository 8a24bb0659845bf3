"""Result folders and suites from others: one line, and no untrusted import."""

import json
import os
import sys

import pytest
from bench_runs import FULL, finish_suite, suite
from runs import prefrl, refused

from prefrl.safety import trust


@pytest.fixture
def folder(tmp_path):
    """A suite's folder with all cells finished."""
    path = tmp_path / "suite"
    returns = {("reacher", "true"): (3, 4), ("reacher", FULL.name): (2, 1)}
    finish_suite(suite(tasks=("reacher",)), path, returns)
    return path


def change(folder, edit):
    path = folder / "suite.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data.update(format="1"),
        lambda data: data.update(suite=[]),
        lambda data: data["suite"].update(name=3),
        lambda data: data.update(cells={}),
        lambda data: data.update(machine=None),
        lambda data: data["cells"][0].update(seed="x"),
        lambda data: data["cells"][0].update(steps=10**30),
        lambda data: data["cells"][0].update(algo="../../x"),
        lambda data: data["cells"][0].update(hash=None),
        lambda data: data["cells"][0].pop("task"),
        lambda data: data["cells"].append(3),
    ],
)
def test_a_manifest_of_another_kind_is_damaged(edit, folder):
    change(folder, edit)
    assert "suite.json is damaged" in refused(prefrl("bench", "compare", folder, folder), 1)


def test_results_import_nothing_that_nobody_named(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_results.py").write_text("import pathlib\npathlib.Path('witness').touch()\n")
    change(folder, lambda data: [cell.update(task="evil_results:Env-v0") for cell in data["cells"]])
    commands = (["compare", folder, folder], ["report", folder], ["publish", folder, tmp_path / "out"])
    for command in commands:
        assert "--trust evil_results" in refused(prefrl("bench", *command), 2)
    assert not (tmp_path / "witness").exists()
    assert "evil_results" not in sys.modules


@pytest.mark.parametrize("kind", ["deep", "fifo", "huge", "nan", "bytes"])
def test_a_suite_file_that_cannot_be_read(kind, tmp_path):
    path = tmp_path / "mine.toml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        path.write_bytes(b"#" * 2**21)
    else:
        path.write_bytes({"deep": b"a = " + b"[" * 100_000, "nan": b"steps = nan", "bytes": b"\xff\xfe"}[kind])
    assert "mine.toml" in refused(prefrl("bench", "run", path, "--out", tmp_path / "out"), 2)
    assert not (tmp_path / "out").exists()


EVIL = """
import os, pathlib
import gymnasium
pathlib.Path(os.environ["WITNESS"]).touch()
gymnasium.register("Env-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=60)
"""
SUITE = """
tasks = [{tasks}]
seeds = [0]
steps = 1000
[variants.true]
teacher = "none"
"""


@pytest.fixture
def evil_suite(tmp_path, monkeypatch):
    """A suite that names a module in its folder, and the file that the module writes when imported."""
    (tmp_path / "evil_suite.py").write_text(EVIL)
    (tmp_path / "mine.toml").write_text(SUITE.format(tasks='"reacher", "evil_suite:Env-v0"'))
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "witness"
    trust._folders.pop("evil_suite", None)
    sys.modules.pop("evil_suite", None)


@pytest.mark.parametrize("command", [["run", "mine.toml", "--out", "out"], ["jobs", "mine.toml"]])
def test_a_module_that_a_suite_file_names_is_imported_only_if_the_person_names_it(command, evil_suite):
    for flags in ([], ["--trust", "evil"], ["--trust", "evil_suite.more"]):
        line = refused(prefrl("bench", *command, *flags), 2)
        assert "mine.toml" in line
        assert "--trust evil_suite" in line
        assert not evil_suite.exists()
    assert not evil_suite.with_name("out").exists()


def test_a_suite_file_s_module_that_the_person_names_is_imported(evil_suite):
    from prefrl_benchmarks.suites import find_suite

    found = find_suite("mine.toml", ("evil_suite",))
    assert evil_suite.exists()
    assert [cell.task for cell in found.cells()] == ["reacher", "evil_suite:Env-v0"]


@pytest.mark.parametrize("task", [":Env-v0", "\\u001b[2J:Env-v0", "os:Env-v0", "a:b:Env-v0"])
def test_odd_modules_in_a_suite_file(task, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE.format(tasks=f'"{task}"'))
    line = refused(prefrl("bench", "run", tmp_path / "mine.toml", "--out", tmp_path / "out"), 2)
    assert line.isprintable()
    assert "--trust" in line
